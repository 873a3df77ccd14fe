"""TensorBoard: event files in the run's folder."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import TensorBoardLogger

from stkd_lightning.reporting.loggers.fault_tolerant import SkipsLoggedSteps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALARS = 10**9  # of each figure that are read back, which is all of them


class FaultTolerantTensorBoardLogger(SkipsLoggedSteps, TensorBoardLogger):
    """Lightning's TensorBoard logger whose faults end no run, and which goes on with its files.

    Args:
        save_dir: receives the folder ``tensorboard``.
        id: of the run; that of an earlier one goes on with it.
        options: further arguments of ``TensorBoardLogger``.
    """

    label = "TensorBoard"

    def __init__(self, save_dir: str | Path, *, id: str | None = None, **options: Any) -> None:
        # What the hyperparameters are shown with are the test figures, at the end.
        options = {"name": "tensorboard", "default_hp_metric": False, **options}
        super().__init__(save_dir=save_dir, version=id, **options)

    def last_steps(self) -> dict[str, int]:
        """Read them from the event files; a damaged end of one is passed over."""
        if not any(Path(self.log_dir).glob("events.*")):
            return {}
        logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it tells which files it reads
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        written = EventAccumulator(self.log_dir, size_guidance={"scalars": SCALARS}).Reload()
        return {tag: max(event.step for event in written.Scalars(tag)) for tag in written.Tags()["scalars"]}


def finish_tensorboard(
    logger: TensorBoardLogger, results: Mapping[str, float], figures: "Mapping[str, Figure]"
) -> None:
    """Log test figures, as what the hyperparameters led to, and pictures."""
    logger.log_hyperparams(dict(logger.hparams), dict(results))
    for name, figure in figures.items():
        logger.experiment.add_figure(f"pictures/{name}", figure, close=False)
