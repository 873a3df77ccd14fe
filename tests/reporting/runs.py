"""Runs as the reports read them, made of a few figures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from stkd_lightning.reporting.diagnose import diagnose
from stkd_lightning.reporting.diagnostics import FILE
from stkd_lightning.reporting.run import Run, read_run
from stkd_lightning.reporting.summary import RunSummary
from stkd_lightning.tasks.types import Batch
from stkd_lightning.utilities.files import write_json, write_text

CLASSES = ["cat", "dog", "<b>& $\\frac{$", "ship"]


def run(
    loss: str,
    seed: int,
    last: float,
    *,
    validation: float | None = 0.5,
    data: str = "digits",
    student: str = "resnet8",
    **options: float | str,
) -> Run:
    """Return a run with these figures; options are written ``loss__alpha=0.5`` and count as given by the user."""
    accuracies = {"test": {"last": {"accuracy": last}, "selected": {"accuracy": last - 0.01, "calibration_error": 0.1}}}
    teacher = {"network": "resnet20", "parameters": 400, "flops": 8000, "test": {"last": {"accuracy": 0.9}}}
    config: dict[str, Any] = {"seed": seed, "compile": seed > 0, "teacher": {"network": {"name": "resnet20"}}}
    for name, value in options.items():
        part, _, option = name.partition("__")
        config.setdefault(part, {})[option] = value
    summary = {
        "loss": loss,
        "seed": seed,
        "overrides": [f"loss={loss}", f"seed={seed}", *(f"{k.replace('__', '.')}={v}" for k, v in options.items())],
        "data": {"name": data, "digest": data, "class_names": CLASSES, "image_size": 8},
        "student": {"network": student, "parameters": 100, "flops": 2000, **accuracies}
        | {"validation": {} if validation is None else {"accuracy": validation}},
        "teacher": teacher,
        "versions": {"torch": "2.11"},
        "hardware": {"cpu": "a processor", "gpus": []},
    }
    return Run(RunSummary.from_plain(summary), config)


def written(one: Run, folder: Path) -> Run:
    """Write a run to a folder, with metrics and diagnostics, and return it as it is read."""
    folder.mkdir(parents=True)
    write_json(folder / "summary.json", one.summary.to_plain())
    write_json(folder / "config.yaml", one.config)  # which is YAML
    rows = [f"{epoch},{10 * epoch},{0.4 + 0.1 * epoch},{0.3 + 0.1 * epoch}" for epoch in range(3)]
    write_text(folder / "metrics.csv", "\n".join(["epoch,step,val/accuracy,val/agreement", *rows]) + "\n")
    random = torch.Generator().manual_seed(one.seed)
    images, labels = torch.randn(40, 3, 8, 8, generator=random), torch.arange(40) % len(CLASSES)
    weights = torch.randn(2, 3 * 8 * 8, len(CLASSES), generator=random)
    student, teacher = (lambda x, w=w: x.flatten(1) @ w for w in weights)
    found = diagnose(student, teacher, [Batch(images, labels)], num_classes=len(CLASSES),
                     device=torch.device("cpu"), mean=np.zeros(3), std=np.ones(3))  # fmt: skip
    found.save(folder / FILE)
    return read_run(folder)
