"""Runs of segmentation as the reports read them, made of a few figures."""

from pathlib import Path

import torch
from torch import Tensor

from stkd_lightning.reporting.diagnose_segmentation import diagnose_segmentation
from stkd_lightning.reporting.diagnostics_file import FILE
from stkd_lightning.reporting.run import Run, read_run
from stkd_lightning.reporting.segmentation_diagnostics import SegmentationDiagnostics
from stkd_lightning.reporting.summary import RunSummary
from stkd_lightning.tasks import Score
from stkd_lightning.tasks.segmentation_metrics import IGNORED, loggable
from stkd_lightning.tasks.types import Batch
from stkd_lightning.utilities.files import write_json, write_text

Sizes = tuple[tuple[int, int], ...]

CLASSES = ("sky", "<b>road</b>", "a tree with a very long name indeed")
SIZES = ((12, 16), (20, 9), (12, 16), (14, 14), (12, 16), (20, 9), (7, 30), (12, 16))


def images(classes: int = len(CLASSES), sizes: Sizes = SIZES) -> list[Batch]:
    """Noise with masks, in batches of one image; the first row has no class."""
    random = torch.Generator().manual_seed(0)
    batches = []
    for i, size in enumerate(sizes):
        labels = torch.randint(classes, (1, *size), generator=random)
        labels[:, 0] = IGNORED
        batches.append(Batch(torch.rand(1, 3, *size, generator=random), labels, torch.tensor([10 * i])))
    return batches


class Network:
    """A linear map of the three colours at each pixel, and how often it was called."""

    def __init__(self, seed: int, classes: int = len(CLASSES)) -> None:
        self.weights = torch.randn(3, classes, generator=torch.Generator().manual_seed(seed))
        self.calls = 0

    def __call__(self, pixels: Tensor) -> Tensor:
        self.calls += 1
        return (pixels.movedim(1, -1) @ self.weights).movedim(-1, 1)


def diagnosed(
    student: Network, teacher: Network | None, batches: list[Batch], classes: int = len(CLASSES)
) -> SegmentationDiagnostics:
    """Return the diagnostics of two networks."""
    by_index = {int(index): batch for batch in batches if batch.indices is not None for index in batch.indices}
    return diagnose_segmentation(
        student, teacher, batches, lambda indices: (by_index[i] for i in indices), num_classes=classes,
        device=torch.device("cpu"), mean=[0.0] * 3, std=[1.0] * 3,
    )  # fmt: skip


def mask_run(
    folder: Path,
    loss: str,
    seed: int = 0,
    *,
    names: tuple[str, ...] = CLASSES,
    sizes: tuple[tuple[int, int], ...] = SIZES,
) -> Run:
    """Write a run to a folder, with metrics and diagnostics, and return it as it is read."""
    random = torch.Generator().manual_seed(seed + len(loss))

    def test(miou: float) -> dict[str, float]:
        values = torch.rand(len(names), generator=random).tolist()
        return {
            "miou": miou,
            "pixel_accuracy": 0.8,
            "image_quality": 0.55,
            "quality_variance": 0.04,
            "high_precision": 0.25,
            **{f"iou/{loggable(name)}": value for name, value in zip(names, values, strict=True)},
        }

    network = {"network": "DilatedResNet-w8", "parameters": 100, "flops": 2000}
    tests = {"last": test(0.5 + 0.01 * seed), "selected": test(0.6 + 0.01 * seed)}
    content = {
        "loss": loss,
        "seed": seed,
        "overrides": [f"loss={loss}"],
        "data": {"name": "streets", "digest": "streets", "class_names": names, "image_size": [12, 16],
                 "task": "segmentation"},
        "student": {**network, "test": tests, "validation": test(0.4 + 0.1 * (loss == "dsd"))},
        "teacher": {**network, "network": "DilatedResNet-w24", "parameters": 800, "test": {"last": test(0.7)}},
        "baseline": {**network, "test": {"last": test(0.45), "selected": test(0.46)}},
        "score": vars(Score("miou")),
        "images": {"validation": 100, "test": 400},
    }  # fmt: skip
    run = Run(RunSummary.from_plain(content), {"seed": seed})
    folder.mkdir(parents=True)
    write_json(folder / "summary.json", run.summary.to_plain())
    write_json(folder / "config.yaml", run.config)  # which is YAML
    write_text(folder / "metrics.csv", "epoch,step,val/miou,val/agreement\n0,9,0.3,0.6\n1,19,0.4,0.7\n")
    classes = len(names)
    diagnostics = diagnosed(Network(seed, classes), Network(99, classes), images(classes, sizes), classes)
    diagnostics.save(folder / FILE)
    return read_run(folder)
