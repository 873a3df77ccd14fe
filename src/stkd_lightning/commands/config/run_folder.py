"""The folder of a new run: refused if it contains another run or files of a user, claimed if its name is a time."""

from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import count
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import last_kept

CONFIGURATIONS = ("config.yaml", "multirun.yaml")  # a run's and a sweep's
MARK, MARK_WITHIN = b"stkd_lightning.", 1 << 20  # in each of them, within so many bytes
# Files of Hydra, job schedulers and loggers.
HARMLESS = (
    *(".*", "*.log", "*.out", "*.err", "optimization_results.yaml"),
    *("wandb", "tensorboard", "*.tfevents.*", "mlruns", "mlartifacts", "mlflow.db*", "lightning_logs"),
)


def is_sweep(config: DictConfig) -> bool:
    """Return true for a configuration that Hydra runs once for each value of a sweep."""
    return config.hydra.mode is not None and config.hydra.mode.name == "MULTIRUN"


def has_time(config: DictConfig) -> bool:
    """Return true if the name of the output folder contains the time."""
    return "${now:" in str(_unresolved(config)["dir"])


def _unresolved(config: DictConfig) -> dict[str, Any]:
    mode: Any = OmegaConf.to_container(config.hydra["sweep" if is_sweep(config) else "run"], resolve=False)
    return mode


def claim(config: DictConfig, folder: Path) -> Path | None:
    """Create the folder of a new run whose name contains the time, under the next free name.

    Two processes that start in the same second get two folders.

    Returns:
        The new folder; ``None`` if the run has a named folder or is resumed.
    """
    if "resume" not in config or config.resume == "auto" or not has_time(config):
        return None
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in count():
        path = folder.with_name(f"{folder.name}_{number}") if number else folder
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError("unreachable")


def check_fresh(config: DictConfig, folder: Path, *, sweep: bool = False) -> None:
    """Refuse to train in a folder with something that would be lost.

    Args:
        config: of the run; other commands have no option ``resume``.
        folder: of the run or the sweep.
        sweep: the folder is a sweep's, with a folder for each run.

    Raises:
        InputError: the folder contains another run, and ``resume`` is not set; or files that no run has written.
    """
    if "resume" not in config:
        return
    option = f"hydra.{'sweep' if sweep else 'run'}.dir"
    if folder.resolve() == folder.resolve().parent:
        raise InputError(f"output folder {folder}: is the root of the file system; set {option}=outputs/NAME")
    try:
        foreign = sorted(_foreign(folder, sweep=sweep))
        old = _runs(folder, config) if sweep else [folder] * _has_run(folder)
    except OSError as error:
        raise InputError(f"output folder {folder}: cannot be read ({error.strerror})") from error
    if foreign and not (config.resume == "auto" and old):
        more = ", ..." if len(foreign) > 3 else ""
        raise InputError(
            f"output folder {folder}: contains files that no run has written ({', '.join(foreign[:3])}{more}); "
            f"set {option} to another folder"
        )
    if not old or config.resume is not None:
        return
    if sweep:
        raise InputError(
            f"output folder {folder}: contains an earlier sweep; resume=auto continues it, "
            f"resume=false starts a new sweep and overwrites it"
        )
    if (folder / "summary.json").is_file():
        raise InputError(
            f"output folder {folder}: contains a finished run; set another {option}, or resume=false to overwrite it"
        )
    raise InputError(
        f"output folder {folder}: contains an interrupted run; resume=auto continues it, "
        "resume=false starts a new run and overwrites it"
    )


def _has_run(folder: Path) -> bool:
    return (folder / "summary.json").is_file() or last_kept(folder / "checkpoints") is not None


def _runs(folder: Path, config: DictConfig) -> list[Path]:
    """Return the runs of an earlier sweep in whose folders a new sweep would write."""
    if not folder.is_dir() or _unresolved(config)["subdir"] != "${hydra.job.num}":
        return []
    return [path for path in folder.iterdir() if path.name.isdigit() and _has_run(path)]


def _foreign(folder: Path, *, sweep: bool) -> Iterator[str]:
    """Yield the names of a folder's files that neither this project nor its libraries wrote."""
    paths = list(folder.iterdir()) if folder.is_dir() else []
    if _is_ours(folder) or (sweep and any(map(_is_ours, paths))):
        return
    for path in paths:
        empty = path.is_dir() and all(child.name.startswith(".") for child in path.iterdir())
        if not (empty or any(fnmatch(path.name, pattern) for pattern in HARMLESS) or _is_ours(path)):
            yield path.name


def _is_ours(folder: Path) -> bool:
    """Return true if a run or a sweep of this project has written its configuration into a folder."""
    for path in (folder / name for name in CONFIGURATIONS):
        if path.is_file():
            with path.open("rb") as file:
                if MARK in file.read(MARK_WITHIN):
                    return True
    return False
