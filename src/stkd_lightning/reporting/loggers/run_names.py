"""Names by which people, and later parts of a run, find it in a dashboard."""

import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stkd_lightning.reporting.grouping import rounded
from stkd_lightning.reporting.run_options import NON_RESULT_GROUPS, NON_RESULT_OPTIONS

# What the name holds already, or what is no setting.
NO_SETTING = {"callbacks", "dataset", "experiment", "logger", "loss", "seed", "student", "trainer"}
LONGEST = 120  # characters of a name; W&B takes 128


def run_names(loggers: Any, *, name: str, group: str | None, tags: list[str]) -> dict[str, Any]:
    """Return what the user has not given to the runs of dashboards, by option, for example ``wandb.id``.

    Args:
        loggers: nodes of the configuration by name; those with an ``id`` have runs.
        name: of the run.
        group: of runs of one sweep.
        tags: words.
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
        method: the loss.
        student: the network.
        data: the data set.
        overrides: what the run was started with; its settings are in the name.
        seed: of the run.
    """
    settings = dict(o.lstrip("+~").split("=", 1) for o in overrides if "=" in o)
    own = {
        k: v
        for k, v in settings.items()
        if k not in NO_SETTING | NON_RESULT_OPTIONS and not k.startswith(NON_RESULT_GROUPS)
    }
    last = [name.rpartition(".")[2] for name in own]
    short = [end if last.count(end) == 1 else name for name, end in zip(own, last, strict=True)]
    told = [f"{name}={rounded(value)}" for name, value in zip(short, own.values(), strict=True)]
    end = f"seed {seed}"
    return f"{' '.join([method, student, data, *told])[: LONGEST - len(end) - 1]} {end}"


def sweep_name(run_dir: Path, *, swept: bool) -> str | None:
    """Return the name of the folder of a run's sweep, with the day where that is a time; ``None`` for a single run.

    Args:
        run_dir: of the run.
        swept: whether Hydra says that it is one of several; a job that is a process of its own is told by the folder.
    """
    folder = run_dir.absolute().parent
    if not (swept or (folder / "multirun.yaml").is_file()):
        return None
    clock = re.fullmatch(r"\d\d-\d\d-\d\d", folder.name)
    return f"{folder.parent.name}_{folder.name}" if clock else folder.name
