"""TensorBoard logger, with event files in the run's folder."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import TensorBoardLogger

from stkd_lightning.reporting.loggers.fault_tolerant import SkipsLoggedSteps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALARS = 10**9  # values per figure to read back: all


class FaultTolerantTensorBoardLogger(SkipsLoggedSteps, TensorBoardLogger):
    """Lightning's TensorBoard logger, except that its faults do not stop a run, and that it can resume a run.

    Args:
        save_dir: parent of the folder ``tensorboard``.
        id: id of the run; the id of an earlier run resumes it.
        options: further arguments of ``TensorBoardLogger``.
    """

    label = "TensorBoard"

    def __init__(self, save_dir: str | Path, *, id: str | None = None, **options: Any) -> None:
        # The hyperparameters are logged at the end, together with the test results.
        options = {"name": "tensorboard", "default_hp_metric": False, **options}
        super().__init__(save_dir=save_dir, version=id, **options)

    def last_steps(self) -> dict[str, int]:
        """Return the last steps in the event files; a damaged end of a file is ignored."""
        if not any(Path(self.log_dir).glob("events.*")):
            return {}
        logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it logs every file that it reads
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(self.log_dir, size_guidance={"scalars": SCALARS}).Reload()
        return {tag: max(event.step for event in events.Scalars(tag)) for tag in events.Tags()["scalars"]}


def finish_tensorboard(
    logger: TensorBoardLogger, results: Mapping[str, float], figures: "Mapping[str, Figure]"
) -> None:
    """Log test results together with the hyperparameters, and figures."""
    logger.log_hyperparams(dict(logger.hparams), dict(results))
    for name, figure in figures.items():
        logger.experiment.add_figure(f"pictures/{name}", figure, close=False)
