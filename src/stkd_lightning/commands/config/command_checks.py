"""Checks of the configurations of ``export``, ``predict``, ``report`` and ``cache``, made before torch is loaded."""

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from stkd_lightning.utilities import validation
from stkd_lightning.utilities.choices import CACHE_KINDS, DEVICES
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.files import check_writable

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
SUFFIXES = (".csv", ".json")
FRONT_END = ("inside", "outside")  # of an exported file


def check_export(config: DictConfig) -> None:
    """Refuse options of ``export`` that cannot work.

    Raises:
        InputError: the output folder cannot be created, or the name of the repository is not valid.
    """
    if config.output is not None:
        check_output(Path(validation.path("output", config.output)))
    validation.switch("private", config.private)
    if config.front_end not in FRONT_END:
        raise unknown("front_end", str(config.front_end), FRONT_END)
    if config.data_dir is not None:
        validation.path("data_dir", config.data_dir)
    name = config.push_to_hub
    if name is not None and not (isinstance(name, str) and REPOSITORY.fullmatch(name)):
        raise InputError(f"push_to_hub={name}: must be OWNER/NAME, for example you/student")


def check_output(output: Path) -> None:
    """Refuse a folder that an export cannot be written to.

    Raises:
        InputError: it cannot be created, or it is a file, the current folder or above it.
    """
    check_writable(output if output.is_dir() else output.absolute().parent)
    if output.exists() and not output.is_dir():
        raise InputError(f"output={output}: is a file; choose a folder")
    if output.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise InputError(f"output={output}: is the current folder or above it; choose a folder inside it")


def default_output(checkpoint: Path) -> Path:
    """Return the folder of an export: ``exported`` in the folder of the run, or beside a checkpoint outside a run.

    Raises:
        InputError: the student is an export itself.
    """
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    if (folder / "student.json").is_file():
        raise InputError(f"output: name a folder, since checkpoint={checkpoint} is an export itself: output=exported")
    return (folder.parent if folder.name == "checkpoints" else folder) / "exported"


def check_predict(config: DictConfig) -> None:
    """Refuse options of ``predict`` that cannot work.

    Raises:
        InputError: an image or folder does not exist, or the output file cannot be written.
    """
    if config.device not in DEVICES:
        raise unknown("device", str(config.device), DEVICES)
    images: Any = config.images
    for path in images if isinstance(images, ListConfig) else [images]:
        if not Path(validation.path("images", path)).exists():
            raise InputError(f"images={path}: no such file or folder")
    for name in ("overlays", "frames"):
        validation.switch(name, config[name])
    if config.output is not None:
        _check_predicted(Path(validation.path("output", config.output)))


def _check_predicted(output: Path) -> None:
    """Refuse an output that is neither a file for classes nor a folder for masks.

    Raises:
        InputError: names it.
    """
    is_file = output.suffix in SUFFIXES
    if output.is_dir() if is_file else output.suffix or output.is_file():
        raise InputError(f"output={output}: must be a file that ends in .csv or .json, or a folder for masks")
    check_writable(output.absolute().parent if is_file else output)


def check_report(config: DictConfig) -> None:
    """Refuse options of ``report`` that cannot work.

    Raises:
        InputError: a folder or file of runs does not exist, or the output folder cannot be created.
    """
    runs: Any = config.runs
    for path in runs if isinstance(runs, ListConfig) else [runs]:
        if not Path(validation.path("runs", path)).exists():
            raise InputError(f"runs={path}: no such folder or file")
    for name in ("latency", "complete"):
        validation.switch(name, config[name])
    if config.output is not None:
        check_writable(Path(validation.path("output", config.output)))


def check_cache(config: DictConfig) -> None:
    """Refuse options of ``cache`` that cannot work.

    Raises:
        InputError: an unknown kind, a number below 0, no such folder, or entries to prune that nothing chooses.
    """
    kinds: Any = config.kind
    for kind in kinds if isinstance(kinds, ListConfig) else [kinds]:
        if kind not in (None, *CACHE_KINDS):
            raise unknown("kind", str(kind), CACHE_KINDS)
    for name in ("older_than_days", "larger_than_gib"):
        validation.optional_non_negative(name, config[name])
    if config.cache_dir is not None and not Path(validation.path("cache_dir", config.cache_dir)).is_dir():
        raise InputError(f"cache_dir={config.cache_dir}: no such folder")
    chosen = any(config[name] is not None for name in ("kind", "older_than_days", "larger_than_gib"))
    if validation.switch("prune", config.prune) and not chosen:
        raise InputError(
            "prune=true: would delete the whole cache; choose entries with kind=, older_than_days= or "
            "larger_than_gib= (older_than_days=0: all)"
        )
