"""Going on with a run: from which checkpoint, and only if it is the same run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.callbacks.checkpoint_folder import newest_whole
from stkd_lightning.commands.config.compose import with_values
from stkd_lightning.commands.training.pretrain import plain
from stkd_lightning.data.description import DataDescription
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.inference.student_info import name_of
from stkd_lightning.reporting.loggers.run_names import run_name, run_names, sweep_name
from stkd_lightning.reporting.run_options import result_options
from stkd_lightning.reporting.summary import RunSummary
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.redaction import redacted


@dataclass(frozen=True)
class Earlier:
    """An earlier part of a run.

    Attributes:
        checkpoint: from which the run goes on.
        origin: what the checkpoint holds of the run.
        summary: of the run, if it was finished.
    """

    checkpoint: Path
    origin: StudentProvenance
    summary: RunSummary | None

    def decided(self, settings: DictConfig) -> DictConfig:
        """Return settings with what the run decided for its student in place of ``auto``.

        The teacher is found by settings that may leave this open, so it must be there before.
        """
        config = self.origin.config
        values: dict[str, Any] = {}
        if settings.trainer.precision == "auto":
            values |= {"precision": config.get("precision"), "trainer.precision": config.get("precision")}
        if settings.compile == "auto":
            values["compile"] = config.get("compile")
        return with_values(settings, values)

    def check_data(self, data: DataDescription) -> None:
        """Refuse to go on with other data, since the result would be neither run's.

        Raises:
            InputError: they have changed.
        """
        if self.origin.data != data:
            raise InputError(f"resume: the data have changed since {self.checkpoint}; {OUT}")

    def check_teacher(self, digest: str | None) -> None:
        """Refuse to go on with another teacher, likewise.

        Raises:
            InputError: it is another one.
        """
        if self.origin.teacher != digest:
            raise InputError(
                f"resume: the teacher is another one than that of {self.checkpoint}; bring back teacher.checkpoint or "
                f"cache_dir, or {OUT}"
            )


OUT = "begin another run in another hydra.run.dir"


def find_earlier(settings: DictConfig) -> Earlier | None:
    """Find the interrupted or finished run in the settings' folder; ``None`` where there is none.

    Raises:
        InputError: the run had other settings; names the first of them and its value.
    """
    run_dir = Path(settings.run_dir)
    checkpoint = newest_whole(run_dir / "checkpoints")
    if checkpoint is None:
        return None
    try:
        origin = StudentProvenance.from_checkpoint(checkpoint)
        counts = {name: origin.config[name] for name in ("num_classes", "num_samples")}
    except (InputError, KeyError) as error:
        raise InputError(f"checkpoint {checkpoint}: is not of a run of this project; {OUT}") from error
    written = run_dir / "summary.json"
    try:
        summary = RunSummary.from_plain(json.loads(written.read_text())) if written.is_file() else None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{written}: damaged ({reason(error)}); delete it and run again") from error
    earlier = Earlier(checkpoint, origin, summary)
    now = plain(earlier.decided(with_values(settings, counts)))
    _check_settings(origin.config, redacted(now), checkpoint)
    return earlier


def name_dashboards(settings: DictConfig, earlier: Earlier | None) -> DictConfig:
    """Return settings with names by which people, and a later part of this run, find its dashboards."""
    hydra = HydraConfig.get()
    data = str(hydra.runtime.choices.get("dataset") or settings.dataset.get("_target_"))
    overrides = redacted(OmegaConf.to_container(hydra.overrides.task, resolve=False))
    student = name_of(settings.student)
    loggers = earlier.origin.config.get("logger", {}) if earlier else {}
    ids = {f"logger.{n}.id": loggers.get(n, {}).get("id") for n, node in settings.logger.items() if "id" in node}
    if earlier:
        settings = with_values(settings, ids)
    names = run_names(
        settings.logger,
        name=run_name(settings.method, student, data, overrides, settings.seed),
        group=sweep_name(Path(settings.run_dir), swept=hydra.mode == RunMode.MULTIRUN),
        tags=[settings.method, student, data],
    )
    return with_values(settings, {f"logger.{option}": value for option, value in names.items()})


def _check_settings(before: dict[str, Any], now: dict[str, Any], checkpoint: Path) -> None:
    old, new = result_options(before), result_options(now)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            was = f"{name}={old[name]}" if name in old else f"no {name}"
            raise InputError(
                f"resume: {name}={new.get(name)}, but {checkpoint} is of a run with {was}; set it so, or {OUT}"
            )
