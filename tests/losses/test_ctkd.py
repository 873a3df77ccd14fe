import math
from pathlib import Path

import lightning as L
import pytest
import torch

from stkd_lightning import DistillationModule
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.losses import CrossEntropyLoss, CTKDLoss, WeightedSum, softened_kl
from stkd_lightning.losses.ctkd import curriculum, scale_gradient
from stkd_lightning.models import create_model
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.teacher import FrozenTeacher
from tests.losses.properties import waves

STUDENT, TEACHER = ModelOutput(waves(3, 5)), ModelOutput(4 * waves(3, 5, phase=1.0))
TARGET = MixedTarget.unmixed(torch.tensor([0, 1, 2]))


def test_temperature_begins_at_that_of_the_authors() -> None:
    loss = CTKDLoss().double()
    temperature = 1 + 20 / (1 + math.exp(-1))
    assert temperature == pytest.approx(15.6, abs=0.03)
    assert float(loss.temperature().detach()) == pytest.approx(temperature, rel=1e-12)
    value = softened_kl(STUDENT.logits, TEACHER.logits, temperature=temperature)
    torch.testing.assert_close(loss(STUDENT, TEACHER, TARGET), {"ctkd": value}, check_dtype=False)


def test_curriculum_falls_to_minus_one_in_ten_epochs() -> None:
    factors = [curriculum(StepContext(epoch, 240, 0), 10) for epoch in range(12)]
    assert factors[0] == pytest.approx(-0.5 * (1 - math.cos(0.1 * math.pi)))
    assert factors[4] == pytest.approx(-0.5)
    assert factors == sorted(factors, reverse=True)
    assert factors[9:] == [-1.0] * 3
    assert curriculum(None, 10) == -1.0


def test_a_scaled_gradient_leaves_the_value() -> None:
    value = torch.tensor([0.1, -3.0], requires_grad=True)
    scaled = scale_gradient(value, -0.3)
    assert torch.equal(scaled, value)
    scaled.square().sum().backward()
    torch.testing.assert_close(value.grad, -0.3 * 2 * value.detach())


@pytest.mark.parametrize(("epoch", "factor"), [(0, -0.5 * (1 - math.cos(math.pi / 10))), (4, -0.5), (20, -1.0)])
def test_gradient_of_theta_is_reversed(epoch: int, factor: float) -> None:
    """Finite differences of the term, through T**2 too, times the factor of the epoch."""
    loss, step = CTKDLoss().double(), 1e-6
    loss(STUDENT, TEACHER, TARGET, StepContext(epoch, 240, 0))["ctkd"].backward()
    values = []
    for theta in (1 - step, 1 + step):
        temperature = 1 + 20 / (1 + math.exp(-theta))
        values.append(float(softened_kl(STUDENT.logits, TEACHER.logits, temperature=temperature)))
    assert loss.theta.grad is not None
    assert float(loss.theta.grad) == pytest.approx(factor * (values[1] - values[0]) / (2 * step), rel=1e-6)


def test_gradient_of_the_student_is_not_reversed() -> None:
    student = STUDENT.logits.clone().requires_grad_()
    loss = CTKDLoss().double()
    (own,) = torch.autograd.grad(loss(ModelOutput(student), TEACHER, TARGET)["ctkd"], student)
    temperature = float(loss.temperature().detach())
    (expected,) = torch.autograd.grad(softened_kl(student, TEACHER.logits, temperature=temperature), student)
    torch.testing.assert_close(own, expected)


def test_a_step_of_theta_raises_the_term() -> None:
    """The student's optimizer minimizes, so theta ascends."""
    loss = CTKDLoss().double()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    before = loss(STUDENT, TEACHER, TARGET)["ctkd"]
    before.backward()
    optimizer.step()
    assert loss(STUDENT, TEACHER, TARGET)["ctkd"] > before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised(dtype: torch.dtype) -> None:
    loss = CTKDLoss()
    logits = [output.logits.to(dtype) for output in (STUDENT, TEACHER)]
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(*map(ModelOutput, logits), TARGET)["ctkd"]
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(*(ModelOutput(z.float()) for z in logits), TARGET)["ctkd"])


def test_temperature_is_logged(tmp_path: Path) -> None:
    networks = create_model("resnet8", num_classes=10), FrozenTeacher(create_model("resnet8", num_classes=10))
    loss = WeightedSum({"ce": CrossEntropyLoss(), "ctkd": CTKDLoss()})
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=2, limit_val_batches=0, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=2, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(DistillationModule(networks[0], loss, networks[1]), DigitsDataModule(batch_size=16))
    (part,) = (part for part in loss.modules() if isinstance(part, CTKDLoss))
    assert float(trainer.callback_metrics["train/temperature"]) == pytest.approx(float(part.temperature().detach()))
    assert float(part.theta.detach()) != 1
