"""Float32 is float32 in every step, with torch's default of TF32 and after a user asked for TF32."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from stkd_lightning import DistillationModule
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.losses import KDLoss
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.teacher.frozen import score


class Arithmetic(torch.autograd.Function):
    """Returns its input, and records torch's settings in forward and backward."""

    seen: ClassVar[set[tuple[str, str, bool, str]]] = set()

    @classmethod
    def record(cls, part: str, direction: str) -> None:
        convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
        cls.seen.add((part, direction, convolutions, products))

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, images: Tensor, part: str) -> Tensor:
        Arithmetic.record(part, "forward")
        return images.clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        Arithmetic.record("training", "backward")
        return gradients[0], None


class Network(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = super().forward(images)
        return Arithmetic.apply(logits, "training" if self.training else "evaluation")


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    Arithmetic.seen.clear()
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("asked", ["highest", "high"])
def test_steps_compute_float32_in_float32(asked: str, tmp_path: Path) -> None:
    module = DistillationModule(Network(), KDLoss(), FrozenTeacher(nn.Sequential(*Network())))
    Arithmetic.seen.clear()
    torch.set_float32_matmul_precision(asked)
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=2, limit_val_batches=2, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, DigitsDataModule())
    training = (asked == "high", asked)
    assert Arithmetic.seen == {
        ("training", "forward", *training),
        ("training", "backward", *training),
        ("evaluation", "forward", False, "highest"),
    }
    assert torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == asked


def test_score_of_a_teacher_is_exact() -> None:
    torch.set_float32_matmul_precision("medium")
    data = DigitsDataModule()
    data.prepare_data()
    teacher = FrozenTeacher(Network().eval(), dtype=torch.float32)
    Arithmetic.seen.clear()
    score(teacher, data.val_dataloader(), torch.device("cpu"), data.task)
    assert Arithmetic.seen == {("evaluation", "forward", False, "highest")}
