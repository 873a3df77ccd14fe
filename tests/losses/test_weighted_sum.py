import pytest
import torch
from torch import nn

from stkd_lightning.losses import CrossEntropyLoss, KDLoss, Loss, STKDLoss, Terms, WeightedSum
from stkd_lightning.losses.base import Features
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities.errors import InputError

STUDENT, TEACHER = ModelOutput(torch.randn(4, 3)), ModelOutput(torch.randn(4, 3))
TARGET = MixedTarget.unmixed(torch.tensor([0, 1, 2, 0]))


class Constant(Loss):
    """A user's own loss with a parameter and a feature."""

    features = Features(student=("layer3",), teacher=("layer2",))

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(2.0))

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        return {"constant": self.value}


def test_each_loss_is_weighted_and_named() -> None:
    total = WeightedSum({"ce": CrossEntropyLoss(), "own": Constant()}, {"own": 0.5})
    terms = total(STUDENT, TEACHER, TARGET)
    assert set(terms) == {"cross_entropy", "constant"}
    assert terms["constant"].item() == 1.0
    torch.testing.assert_close(terms["cross_entropy"], CrossEntropyLoss()(STUDENT, None, TARGET)["cross_entropy"])


def test_a_term_is_never_counted_twice() -> None:
    with pytest.raises(InputError, match="loss 'kd' returns the term 'cross_entropy', which another"):
        WeightedSum({"stkd": STKDLoss(), "kd": KDLoss()})(STUDENT, TEACHER, TARGET)


def test_needs_are_those_of_its_parts() -> None:
    assert WeightedSum({"ce": CrossEntropyLoss()}).needs_teacher is False
    both = WeightedSum({"ce": CrossEntropyLoss(), "own": Constant()})
    assert both.needs_teacher is True
    assert both.features == Features(student=("layer3",), teacher=("layer2",))
    assert len(list(both.parameters())) == 1


def test_errors() -> None:
    with pytest.raises(InputError, match="at least one loss"):
        WeightedSum({})
    with pytest.raises(InputError, match=r"loss.weights 'k': unknown; .*all: kd"):
        WeightedSum({"kd": KDLoss()}, {"k": 1.0})
    with pytest.raises(InputError, match="loss.weights.kd=-1"):
        WeightedSum({"kd": KDLoss()}, {"kd": -1})
