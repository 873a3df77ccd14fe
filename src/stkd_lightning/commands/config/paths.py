"""Paths of a configuration: ``~`` is the home folder, and a relative path starts where the command was started."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stkd_lightning.commands.config.teachers import BUILT, teachers_of

PATHS = ("cache_dir", "data_dir", "checkpoint", "images", "output", "figures", "runs", "dataset.data_dir",
         "dataset.unlabeled_dir", "dataset.cache_dir", "student.checkpoint", "student.weights")  # fmt: skip
OF_TEACHERS = ("checkpoint", "run", "network.weights")


def resolve_paths(config: DictConfig, start: Path) -> None:
    """Replace ``~`` in the path options of a configuration in place; in another folder also make them absolute.

    Hydra changes the folder of a job with ``hydra.job.chdir=true``; otherwise a relative path stays as it was written.

    Args:
        config: its options are strings or lists of strings where they are paths.
        start: folder in which the command was started.
    """
    for node, option in _path_options(config):
        try:
            value: Any = node[option]
        except OmegaConfBaseException:  # a wrong interpolation; refused elsewhere, with its name
            continue
        is_list = isinstance(value, ListConfig)
        path = [_resolved(part, start) for part in value] if is_list else _resolved(value, start)
        if path != value:  # otherwise an interpolation stays, as in the recorded configuration
            node[option] = path
    if os.environ.get("STKD_CACHE"):
        os.environ["STKD_CACHE"] = _resolved(os.environ["STKD_CACHE"], start)


def home_expanded(arguments: list[str]) -> list[str]:
    """Return arguments with ``~`` replaced in the folders of configurations, which Hydra reads by itself."""
    names = ("--config-dir", "-cd", "--config-path", "-cp")
    result = []
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if equals and name in names:
            argument = f"{name}={os.path.expanduser(value)}"
        elif i and arguments[i - 1] in names:
            argument = os.path.expanduser(argument)
        result.append(argument)
    return result


def _path_options(config: DictConfig) -> Iterator[tuple[DictConfig, str]]:
    """Yield the nodes and the names of the path options that are set."""
    of_teachers = [f"{name}.{option}" for name, _ in teachers_of(config) for option in OF_TEACHERS]
    for name in (*PATHS, *of_teachers):
        parent, _, option = name.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if not isinstance(node, DictConfig) or option not in node:
            continue
        # In a class of others, ``weights`` may be anything.
        is_ours = option != "weights" or str(node.get("_target_")).startswith("stkd_lightning.")
        if is_ours and not OmegaConf.is_missing(node, option):
            yield node, option


def _resolved(value: Any, start: Path) -> Any:
    """Return a path as it is read from the current folder; return what is no path unchanged."""
    if not isinstance(value, str) or not value or value in BUILT:
        return value
    path = os.path.expanduser(value)
    return path if start == Path.cwd() else str(start / path)
