"""Going on with a run: from which checkpoint, and only if it is the same run."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.callbacks.checkpoint_folder import newest_whole
from stkd_lightning.commands.training.pretrain import plain
from stkd_lightning.inference.student_info import name_of
from stkd_lightning.models.checkpoint_file import KEY
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.reporting.loggers.run_names import name_runs, run_name, sweep_name
from stkd_lightning.reporting.run_options import shaping
from stkd_lightning.reporting.summary import Summary
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.redaction import redacted

Facts = dict[str, Any]


@dataclass(frozen=True)
class Earlier:
    """An earlier part of a run.

    Attributes:
        checkpoint: from which the run goes on.
        facts: what the checkpoint says of it.
        summary: of the run, if it was finished.
    """

    checkpoint: Path
    facts: Facts
    summary: Summary | None

    def settle(self, config: DictConfig) -> None:
        """Give a configuration what was decided for the run's student, once its teacher is there.

        A teacher is found by the settings that it was asked for with, which may leave open what is decided here.
        """
        _settle(config, self.facts["config"])

    def check_data(self, data: Facts) -> None:
        """Refuse to go on with other data, since the result would be neither run's.

        Raises:
            InputError: they have changed.
        """
        if self.facts.get("data") != data:
            raise InputError(f"resume: the data have changed since {self.checkpoint}; {OUT}")

    def check_teacher(self, digest: str | None) -> None:
        """Refuse to go on with another teacher, likewise.

        Raises:
            InputError: it is another one.
        """
        if self.facts.get("teacher") != digest:
            raise InputError(
                f"resume: the teacher is another one than that of {self.checkpoint}; bring back teacher.checkpoint or "
                f"cache_dir, or {OUT}"
            )


OUT = "begin another run in another hydra.run.dir"


def earlier(config: DictConfig) -> Earlier | None:
    """Find what there is of a run, and give its configuration what was counted then.

    Raises:
        InputError: the run had other settings; names the first and what it was.
    """
    run_dir = Path(config.run_dir)
    checkpoint = newest_whole(run_dir / "checkpoints")
    if checkpoint is None:
        return None
    facts = read_checkpoint(checkpoint).get(KEY)
    before = facts.get("config") if isinstance(facts, dict) else None
    if not isinstance(facts, dict) or not isinstance(before, dict):
        raise InputError(f"checkpoint {checkpoint}: is not of a run of this project; {OUT}")
    config.num_classes, config.num_samples = before.get("num_classes"), before.get("num_samples")
    settled = copy.deepcopy(config)
    _settle(settled, before)
    _check_settings(before, redacted(plain(settled)), checkpoint)
    for name, node in config.logger.items():
        if "id" in node:  # of a run of the dashboards
            node.id = before.get("logger", {}).get(name, {}).get("id")
    written = run_dir / "summary.json"
    return Earlier(checkpoint, facts, json.loads(written.read_text()) if written.is_file() else None)


def _settle(config: DictConfig, before: dict[str, Any]) -> None:
    if config.trainer.precision == "auto":
        config.precision = config.trainer.precision = before.get("precision")
    if config.compile == "auto":
        config.compile = before.get("compile")


def name_dashboards(config: DictConfig) -> None:
    """Give the dashboards' runs names by which people, and a later part of this run, find them."""
    hydra = HydraConfig.get()
    data = str(hydra.runtime.choices.get("dataset") or config.dataset.get("_target_"))
    overrides = redacted(OmegaConf.to_container(hydra.overrides.task, resolve=False))
    student = name_of(config.student)
    name_runs(
        config.logger,
        name=run_name(config.method, student, data, overrides, config.seed),
        group=sweep_name(Path(config.run_dir), swept=hydra.mode == RunMode.MULTIRUN),
        tags=[config.method, student, data],
    )


def _check_settings(before: dict[str, Any], now: dict[str, Any], checkpoint: Path) -> None:
    old, new = shaping(before), shaping(now)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            was = f"{name}={old[name]}" if name in old else f"no {name}"
            raise InputError(
                f"resume: {name}={new.get(name)}, but {checkpoint} is of a run with {was}; set it so, or {OUT}"
            )
