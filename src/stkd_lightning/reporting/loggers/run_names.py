"""Names and ids that identify a run in a dashboard."""

import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stkd_lightning.reporting.grouping import rounded
from stkd_lightning.reporting.run_options import NON_RESULT_GROUPS, NON_RESULT_OPTIONS

# Options that the name contains already, or that are not settings.
NOT_IN_NAME = {"callbacks", "dataset", "experiment", "logger", "loss", "seed", "student", "trainer"}
LONGEST = 120  # characters of a name; W&B allows 128


def run_names(loggers: Any, *, name: str, group: str | None, tags: list[str]) -> dict[str, Any]:
    """Return the dashboards' id, name, group and tags that the user has not set, by option: ``wandb.id``.

    Args:
        loggers: nodes of the configuration by name; loggers with runs have an option ``id``.
        name: name of the run.
        group: name of the sweep.
        tags: tags of the run.
    """
    given = {"name": name, "run_name": name, "group": group, "tags": tags}
    return {
        f"{logger}.{option}": value
        for logger, node in loggers.items()
        if "id" in node
        for option, value in {"id": secrets.token_hex(4), **given}.items()
        if option in node and node[option] is None
    }


def run_name(method: str, student: str, data: str, overrides: Iterable[str], seed: int) -> str:
    """Return a name such as ``stkd resnet8 digits alpha=0.9 seed 0``.

    Args:
        method: name of the loss.
        student: name of the network.
        data: name of the data set.
        overrides: command-line options; those that are settings enter the name.
        seed: seed of the run.
    """
    settings = dict(o.lstrip("+~").split("=", 1) for o in overrides if "=" in o)
    shown = {
        k: v
        for k, v in settings.items()
        if k not in NOT_IN_NAME | NON_RESULT_OPTIONS and not k.startswith(NON_RESULT_GROUPS)
    }
    last = [name.rpartition(".")[2] for name in shown]
    short = [end if last.count(end) == 1 else name for name, end in zip(shown, last, strict=True)]
    words = [f"{name}={rounded(value)}" for name, value in zip(short, shown.values(), strict=True)]
    end = f"seed {seed}"
    return f"{' '.join([method, student, data, *words])[: LONGEST - len(end) - 1]} {end}"


def sweep_name(run_dir: Path, *, swept: bool) -> str | None:
    """Return the name of a sweep's folder, with the date if the name is a time; ``None`` for a single run.

    Args:
        run_dir: folder of the run.
        swept: whether Hydra runs a sweep; a job in a separate process is recognized by the sweep's ``multirun.yaml``.
    """
    folder = run_dir.absolute().parent
    if not (swept or (folder / "multirun.yaml").is_file()):
        return None
    clock = re.fullmatch(r"\d\d-\d\d-\d\d", folder.name)
    return f"{folder.parent.name}_{folder.name}" if clock else folder.name
