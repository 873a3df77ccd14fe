"""A term that is no longer finite ends a run, by name and place."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stkd_lightning import DistillationModule, MixedTarget, ModelOutput
from stkd_lightning.callbacks import Checkpoints
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.distillation.terms import Place, TermTracker
from stkd_lightning.losses import CrossEntropyLoss, KDLoss, Loss
from stkd_lightning.losses.base import Terms
from stkd_lightning.models import create_model
from stkd_lightning.tasks.types import StepContext
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import RunError
from stkd_lightning.utilities.files import LAST
from tests.distillation.test_module import trainer


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_term_is_named(value: float) -> None:
    terms = TermTracker()
    terms.add(("a", "b"), torch.tensor([1.0, 2.0]), Place(0, 0, 0))
    with pytest.raises(RunError, match=f"loss: b is {value} in epoch 3, batch 47, after 2345 steps"):
        terms.add(("a", "b"), torch.tensor([1.0, value]), Place(3, 47, 2345))


class Failing(Loss):
    """Cross-entropy, and a term that becomes infinite at some step."""

    needs_teacher = False

    def __init__(self, at: tuple[int, int]) -> None:
        super().__init__()
        self.at, self.inner = at, CrossEntropyLoss()

    def forward(
        self, student: ModelOutput, teacher: ModelOutput | None, target: MixedTarget, context: StepContext | None = None
    ) -> Terms:
        assert context is not None
        odd: Tensor = student.logits.sum() * (float("inf") if (context.epoch, context.step) == self.at else 0.0)
        return {**self.inner(student, teacher, target, context), "odd": odd}


def test_run_ends_within_a_step_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    module = DistillationModule(network, Failing(at=(1, 2)))
    kept = Checkpoints(tmp_path, select=True)
    fitting = trainer(tmp_path, max_epochs=3, callbacks=[kept])
    with pytest.raises(RunError, match="loss: odd is -?inf in epoch 1, batch 2, after 6 steps"):
        fitting.fit(module, DigitsDataModule())
    content = torch.load(tmp_path / LAST, weights_only=True)
    assert content["global_step"] == 4
    assert all(v.isfinite().all() for v in content["state_dict"].values())


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    module = DistillationModule(network, CrossEntropyLoss())
    kept = Checkpoints(tmp_path, select=True)
    fitting = trainer(tmp_path, callbacks=[kept], limit_train_batches=1, limit_val_batches=0)

    def spoil(*_: object) -> None:
        network[1].bias.data.fill_(float("nan"))

    network.register_forward_hook(spoil)
    with pytest.raises(RunError, match="student.1.bias is no longer finite in epoch 0, after 1 steps"):
        fitting.fit(module, DigitsDataModule())
    assert not (tmp_path / LAST).exists()


def test_teacher_whose_logits_are_infinite_is_blamed(tmp_path: Path) -> None:
    network = create_model("resnet8", num_classes=10)
    network.fc.bias.data[3] = float("inf")
    module = DistillationModule(create_model("resnet8", num_classes=10), KDLoss(), FrozenTeacher(network))
    with pytest.raises(RunError, match="teacher: its logits are NaN or infinite, hence loss: .* in epoch 0, batch 0"):
        trainer(tmp_path).fit(module, DigitsDataModule())
