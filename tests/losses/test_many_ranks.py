"""Two ranks with half of the batch each take the steps of one process with the whole batch."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stkd_lightning import (
    Batch,
    CutMix,
    DistillationModule,
    Mixup,
    MixupOrCutMix,
    StepContext,
    StrongView,
    UncertainMixup,
)
from stkd_lightning import losses as methods
from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.losses import CrossEntropyLoss, Loss, STKDLoss, WeightedSum
from stkd_lightning.models import Layers
from stkd_lightning.tasks import Classification, Segmentation, Task
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.random import generator
from tests.losses.segmenters import CLASSES as PIXEL_CLASSES
from tests.losses.segmenters import Segmenter

BATCH, STEPS, CLASSES = 64, 3, 5

# Left out are those whose learned parts have BatchNorm, which depends on a rank's own batch: FitNet, ReviewKD, SimKD.
LOSSES: dict[str, Callable[[], Loss]] = {
    "sp": methods.SPLoss,
    "cckd": methods.CCKDLoss,
    "cckd, bilinear": lambda: methods.CCKDLoss(kernel="bilinear"),
    "cckd, learned embeddings": lambda: methods.CCKDLoss(embedding_width=6),
    "rkd": methods.RKDLoss,
    "pkt": methods.PKTLoss,
    "dist": methods.DISTLoss,
    "at": methods.ATLoss,
    "nst": methods.NSTLoss,
    "vid": methods.VIDLoss,
    "dkd": methods.DKDLoss,
    "cat_kd": methods.CATKDLoss,
    "wttm": methods.WTTMLoss,
    "nkd": methods.NKDLoss,
    "ctkd": methods.CTKDLoss,
    "kd, standardized": lambda: methods.KDLoss(alpha=1.0, standardize=True),
    "crd": lambda: methods.CRDLoss(num_samples=200, negatives=40, width=6),
}

DENSE: dict[str, Callable[[], Loss]] = {
    "psd": methods.PSDLoss,
    "psd, cirkd": lambda: methods.PSDLoss(reduction="cirkd"),
    "csd": methods.CSDLoss,
    "csd, cirkd": lambda: methods.CSDLoss(reduction="cirkd", temperature=4.0),
    "cwd": methods.CWDLoss,
    "cwd of the feature": methods.CWDFeatureLoss,
    "skd": methods.SKDLoss,
    "ifvd": methods.IFVDLoss,
    "pixel kd": methods.PixelKDLoss,
    "auxiliary": methods.AuxiliaryCrossEntropyLoss,
}

# Ways to mix, whose clean and mixed rows are shared unequally by the ranks.
VIEWS = StrongView(mean=(0.5,) * 3, std=(0.3,) * 3)
SEPARATE = {"hard_label": "teacher", "mixed_weight": 0.5}
MIXED: dict[str, tuple[Callable[[], Loss], Mixing]] = {
    "clean and mixed": (lambda: methods.STKDLoss(**SEPARATE), Mixup(1.0, fraction=0.3)),
    "clean labels": (lambda: methods.STKDLoss(hard_label="clean", mixed_weight=2.0), Mixup(1.0, fraction=0.7)),
    "keep": (lambda: methods.STKDLoss(**SEPARATE), Mixup(1.0, keep=True, fraction=0.5)),
    "keep, two passes": (lambda: methods.STKDLoss(**SEPARATE), Mixup(1.0, keep=True, forwards=2)),
    "keep of a relation": (methods.SPLoss, Mixup(1.0, keep=True)),
    "another class": (methods.STKDLoss, Mixup(1.0, k=3, partner="other_class")),
    "cutmix": (methods.STKDLoss, CutMix(per_sample=True, partner="other_class")),
    "mixup or cutmix": (methods.STKDLoss, MixupOrCutMix(1.0)),
    "uncertain student": (lambda: methods.STKDLoss(hard_label="none"), UncertainMixup(score="student")),
    "mlkd": (methods.MLKDLoss, VIEWS),
    "mlkd, rows": (lambda: methods.MLKDLoss(mask="rows", standardize=True), VIEWS),
    "uncertain teacher": (lambda: methods.STKDLoss(hard_label="none"), UncertainMixup(score="teacher", kept=0.5)),
}
UNLABELLED: dict[str, tuple[Callable[[], Loss], Mixing]] = {
    "unlabelled": (methods.STKDLoss, Mixup(1.0)),
    "unlabelled, keep": (lambda: methods.STKDLoss(**SEPARATE), Mixup(1.0, keep=True)),
    "unlabelled, relation": (methods.SPLoss, Mixup(1.0, fraction=0.5)),
}
DENSE_MIXED: dict[str, tuple[Callable[[], Loss], Mixing]] = {
    "pixels by cutmix": (lambda: methods.STKDLoss(**SEPARATE), CutMix(per_sample=True, keep=True)),
    "pixels, clean and mixed": (lambda: methods.STKDLoss(**SEPARATE), Mixup(1.0, fraction=0.3)),
}
CASES = {
    **{name: (make, Mixup()) for name, make in (LOSSES | DENSE).items()},
    **MIXED,
    **UNLABELLED,
    **DENSE_MIXED,
}


class Plain(nn.Module):
    """Two convolutions and a classifier, without BatchNorm."""

    feature_layers = Layers(("first", "second"), "second", "pool", "head")

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Tanh())
        self.second = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.Tanh())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.second(self.first(images))).flatten(1))


class Step(nn.Module):
    """What DDP wraps."""

    def __init__(self, module: DistillationModule) -> None:
        super().__init__()
        self.module = module
        names = module._ddp_params_and_buffers_to_ignore
        self._ddp_params_and_buffers_to_ignore = [f"module.{name}" for name in names]

    def forward(self, batch: Batch, context: StepContext) -> Tensor:
        return torch.stack(list(self.module.terms(batch, context).values())).sum()


def global_batch(step: int, *, dense: bool, unlabelled: bool) -> Batch:
    """Return images with a label each, or with labels of their pixels, of which some have no class.

    Of unlabelled images, more are in the first half than in the second.
    """
    random = generator(0, "test", step)
    images = torch.from_numpy(random.normal(size=(BATCH, 3, 8, 8)))
    if dense:
        labels = torch.from_numpy(random.integers(0, PIXEL_CLASSES, (BATCH, 8, 8)))
        labels[torch.from_numpy(random.random((BATCH, 8, 8))) < torch.linspace(0, 0.5, BATCH)[:, None, None]] = 255
    else:
        labels = torch.from_numpy(random.integers(0, CLASSES, BATCH))
    if unlabelled:
        labels[torch.from_numpy(random.random(BATCH)) < torch.linspace(0.8, 0.2, BATCH)] = -1
    return Batch(images, labels, torch.from_numpy(random.permutation(200)[:BATCH]))


def train(name: str, rank: int, ranks: int) -> tuple[list[float], list[Tensor]]:
    """Return the objective of each step on this rank, and the parameters after the last."""
    torch.manual_seed(0)
    dense = name in DENSE | DENSE_MIXED
    make, mixup = CASES[name]
    has_auxiliary = name in ("auxiliary", "psd, cirkd")  # DDP refuses parameters without gradients
    student, teacher = (Segmenter(2, auxiliary=has_auxiliary), Segmenter(3)) if dense else (Plain(3), Plain(4))
    task: Task = (
        Segmentation(("a", "b", "c"), class_weights=(1.0, 2.0, 0.5))
        if dense
        else Classification(unlabelled=name in UNLABELLED)
    )
    parts = {"method": make()} | ({} if isinstance(make(), STKDLoss) else {"cross_entropy": CrossEntropyLoss()})
    loss = WeightedSum(parts)
    module = DistillationModule(
        student.double(),
        loss,
        FrozenTeacher(teacher.double()),
        mixup if loss.mixable else None,
        task=task,
        example=torch.zeros(1, 3, 8, 8),
    ).double()
    step = Step(module)
    run: nn.Module = DistributedDataParallel(step) if ranks > 1 else step
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    values = []
    for i in range(STEPS):
        mine = slice(rank * BATCH // ranks, (rank + 1) * BATCH // ranks)
        batch = Batch(
            *(
                tensor[mine]
                for tensor in global_batch(i, dense=dense, unlabelled=name in UNLABELLED)
                if tensor is not None
            )
        )
        optimizer.zero_grad()
        value = run(batch, StepContext(0, 1, i, batch.indices))
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    return values, [p.detach() for p in module.parameters()]


def one_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save({name: train(name, rank, 2) for name in CASES}, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple[list[float], list[Tensor]]]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(one_rank, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_are_one_process(name: str, ranks: list[dict[str, tuple[list[float], list[Tensor]]]]) -> None:
    values, parameters = train(name, 0, 1)
    (left, left_parameters), (right, right_parameters) = (rank[name] for rank in ranks)
    assert [(a + b) / 2 for a, b in zip(left, right, strict=True)] == pytest.approx(values, rel=1e-9)
    for expected, own, other in zip(parameters, left_parameters, right_parameters, strict=True):
        assert torch.equal(own, other)
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9)
