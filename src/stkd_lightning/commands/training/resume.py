"""Resume a run from its newest checkpoint, only with the same settings, data and teacher."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.callbacks.checkpoint_folder import newest_whole
from stkd_lightning.commands.config.compose import with_values
from stkd_lightning.commands.config.credentials import public
from stkd_lightning.data.description import DataDescription
from stkd_lightning.inference.about import name_of
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.reporting.loggers.run_names import run_name, run_names, sweep_name
from stkd_lightning.reporting.run_options import flat, result_options
from stkd_lightning.reporting.summary import RunSummary
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.redaction import redacted
from stkd_lightning.utilities.untrusted import read_json


@dataclass(frozen=True)
class EarlierRun:
    """The interrupted or finished run in a run's folder.

    Attributes:
        checkpoint: newest complete checkpoint.
        origin: provenance in the checkpoint.
        summary: summary of the run; ``None`` if it is not finished.
    """

    checkpoint: Path
    origin: StudentProvenance
    summary: RunSummary | None

    def resolve_auto(self, settings: DictConfig) -> DictConfig:
        """Return settings in which ``auto`` is replaced by the earlier run's values.

        Call it after the teacher is found: ``auto`` is part of the teacher's cache key.
        """
        config = self.origin.config
        values: dict[str, Any] = {}
        if settings.trainer.precision == "auto":
            values |= {"precision": config.get("precision"), "trainer.precision": config.get("precision")}
        if settings.compile == "auto":
            values["compile"] = config.get("compile")
        return with_values(settings, values)

    def resolve_storage(self, settings: DictConfig) -> DictConfig:
        """Return settings in which ``dataset.storage=auto`` is replaced by the earlier run's choice."""
        if settings.dataset.get("storage") != "auto":
            return settings
        chosen = (self.origin.config.get("dataset") or {}).get("storage", "prepared")  # all earlier versions prepared
        return with_values(settings, {"dataset.storage": chosen})

    def check_data(self, data: DataDescription) -> None:
        """Refuse to resume with other data.

        Raises:
            InputError: the data have changed.
        """
        if self.origin.data != data:
            raise InputError(f"resume: the data have changed since {self.checkpoint}; {NEW_RUN}")

    def check_teacher(self, digest: str | None) -> None:
        """Refuse to resume with another teacher.

        Raises:
            InputError: the teacher has changed.
        """
        if self.origin.teacher != digest:
            raise InputError(
                f"resume: the teacher differs from the teacher of {self.checkpoint}; set teacher.checkpoint and "
                f"cache_dir as before (as_built: the same weights in every run), or {NEW_RUN}"
            )

    def check_front(self, key: str) -> None:
        """Refuse to resume with another front of the student.

        Raises:
            InputError: the settings, the data or the teacher of the first stage have changed.
        """
        if self.origin.front != key:
            raise InputError(
                f"resume: the first stage differs from the first stage of {self.checkpoint}; set its data, "
                f"trainer.precision and the teacher as before, or {NEW_RUN}"
            )


CHANGED = {"FitNetLoss", "ReviewKDLoss", "SimKDLoss"}  # computed as by their authors since mixup.keep exists
NEW_RUN = "start a new run in another hydra.run.dir"


def find_earlier(settings: DictConfig) -> EarlierRun | None:
    """Find the interrupted or finished run in ``run_dir``; ``None`` if there is none.

    Raises:
        InputError: the run had other settings; names the first that differs and its value.
    """
    run_dir = Path(settings.run_dir)
    checkpoint = newest_whole(run_dir / "checkpoints")
    if checkpoint is None:
        return None
    try:
        origin = StudentProvenance.from_checkpoint(checkpoint)
        counts = {name: origin.config[name] for name in ("num_classes", "num_samples")}
    except (InputError, KeyError) as error:
        raise InputError(f"checkpoint {checkpoint}: does not belong to a run of this project; {NEW_RUN}") from error
    summary_path = run_dir / "summary.json"
    try:
        summary = RunSummary.from_plain(read_json(summary_path)) if summary_path.is_file() else None
    except InputError as error:
        raise InputError(f"{summary_path}: damaged ({reason(error)}); delete it and run again") from error
    earlier = EarlierRun(checkpoint, origin, summary)
    _check_start(origin.config, settings, checkpoint)
    current = public(earlier.resolve_auto(earlier.resolve_storage(with_values(settings, counts))))
    if summary is None:
        _check_losses(origin.config, checkpoint)
    _check_settings(origin.config, current, checkpoint)
    return earlier


def name_dashboards(settings: DictConfig, earlier: EarlierRun | None) -> DictConfig:
    """Return settings with the names of the dashboards, and with the ids of a resumed run."""
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


def _check_losses(config: dict[str, Any], checkpoint: Path) -> None:
    """Refuse to continue a run of an earlier version whose loss is computed otherwise now."""
    mixing = config.get("mixup", {})
    if "keep" in mixing or mixing.get("_target_") != "stkd_lightning.Mixup":  # both came with the changes
        return
    names = {str(value).rpartition(".")[2] for key, value in flat(config["loss"]) if key.endswith("_target_")}
    if changed := sorted(names & CHANGED):
        raise InputError(
            f"resume: {checkpoint} is of an earlier version, whose {changed[0]} is computed otherwise; {NEW_RUN}"
        )


def _check_start(earlier: dict[str, Any], settings: DictConfig, checkpoint: Path) -> None:
    """Refuse to continue a run whose student started from other weights."""
    started = earlier["student"].get("checkpoint_digest")
    if settings.student.get("checkpoint_digest") != started:
        instead = "set it as before" if started else "leave it out"
        raise InputError(
            f"resume: the weights in student.checkpoint differ from those that {checkpoint} started from; {instead}, "
            f"or {NEW_RUN}"
        )


def _check_settings(earlier: dict[str, Any], current: dict[str, Any], checkpoint: Path) -> None:
    old, new = result_options(earlier), result_options(current)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            setting = f"{name}={old[name]}" if name in old else f"no {name}"
            raise InputError(
                f"resume: {name}={new.get(name)}, but {checkpoint} is of a run with {setting}; set it so, or {NEW_RUN}"
            )
