"""The end of a run: ``summary.json`` for programs, a table for people."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table

from stkd_lightning.tasks.base import Task

Summary = dict[str, Any]


def environment() -> dict[str, Any]:
    """Return versions and hardware, which a figure depends on."""
    names = ("stkd-lightning", "torch", "torchvision", "lightning", "torchmetrics", "hydra-core", "numpy")
    cuda = torch.cuda.is_available()
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in names}},
        "hardware": {
            "cpu": _cpu(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def table(summary: Summary, task: Task) -> Table:
    """Lay out teacher, baseline and student; the figures of the test images in the task's columns."""
    shown = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"{summary['data']['name']}, test images, % (last and selected student), seed {summary['seed']}",
        title_justify="left",
    )
    shown.add_column()
    shown.add_column("network")
    for title in ("params", "MFLOPs", *(column.title for column in task.columns)):
        shown.add_column(title, justify="right")
    for role in ("teacher", "baseline", "student"):
        row = summary.get(role)
        if row:
            label = {"baseline": "alone", "student": summary["loss"]}.get(role, role)
            cost = f"{row['parameters']:,}", f"{row['flops'] / 1e6:,.1f}"
            shown.add_row(label, row["network"], *cost, *(column.text(row["test"]) for column in task.columns))
    return shown
