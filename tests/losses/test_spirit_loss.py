import pytest
import torch

from stkd_lightning.losses import RepresentationLoss
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from tests.losses.properties import waves

TARGET = MixedTarget.unmixed(torch.zeros(2, 3, 4, dtype=torch.long))


def test_the_error_by_loops() -> None:
    student, teacher = waves(2, 5, 3, 4), waves(2, 5, 3, 4, phase=1.0)
    total = 0.0
    for b in range(2):
        for c in range(5):
            for i in range(3):
                for j in range(4):
                    total += (float(student[b, c, i, j]) - float(teacher[b, c, i, j])) ** 2
    value = RepresentationLoss()(ModelOutput(student), ModelOutput(teacher), TARGET)["representation"]
    assert value.item() == pytest.approx(total / (2 * 5 * 3 * 4), rel=1e-12)


def test_no_label_is_read_and_the_teacher_is_constant() -> None:
    student, teacher = waves(2, 5, 3, 4).requires_grad_(), waves(2, 5, 3, 4, phase=1.0).requires_grad_()
    terms = RepresentationLoss()(ModelOutput(student), ModelOutput(teacher), None)
    terms["representation"].backward()
    torch.testing.assert_close(student.grad, 2 * (student - teacher).detach() / student.numel())
    assert teacher.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised(dtype: torch.dtype) -> None:
    student, teacher = waves(2, 5, 3, 4).to(dtype), waves(2, 5, 3, 4, phase=1.0).to(dtype)
    value = RepresentationLoss()(ModelOutput(student), ModelOutput(teacher), TARGET)["representation"]
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, (student.float() - teacher.float()).square().mean())


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="RepresentationLoss needs a teacher"):
        RepresentationLoss()(ModelOutput(waves(2, 5, 3, 4)), None, TARGET)
    with pytest.raises(ValueError, match="need one shape"):
        RepresentationLoss()(ModelOutput(waves(2, 5, 3, 4)), ModelOutput(waves(2, 1, 3, 4)), TARGET)
