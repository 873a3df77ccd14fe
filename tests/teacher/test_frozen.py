import pytest
import torch

from stkd_lightning.models import create_model
from stkd_lightning.tasks import Classification
from stkd_lightning.teacher import FrozenTeacher, check_accuracy, default_min_accuracy
from stkd_lightning.teacher.frozen import score
from stkd_lightning.utilities.errors import InputError


def test_stays_in_evaluation_mode() -> None:
    teacher = FrozenTeacher(create_model("resnet8", num_classes=10))
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    teacher.train()
    teacher(torch.randn(4, 3, 32, 32))
    assert not any(m.training for m in teacher.modules())
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


def test_gives_no_gradient() -> None:
    teacher = FrozenTeacher(create_model("resnet8", num_classes=10), features=["layer3"])
    output = teacher(torch.randn(2, 3, 32, 32, requires_grad=True))
    assert not output.logits.requires_grad
    assert not output.features["layer3"].requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())


def test_answers_in_the_precision_of_the_images_and_stays_itself() -> None:
    network = create_model("resnet8", num_classes=10)
    teacher = FrozenTeacher(network)
    images = torch.randn(2, 3, 32, 32)
    double, single, half = teacher(images.double()), teacher(images), teacher(images.bfloat16())
    assert double.logits.dtype == torch.float64
    torch.testing.assert_close(double.logits.float(), single.logits, rtol=1e-4, atol=1e-4)
    assert half.logits.dtype == torch.bfloat16
    torch.testing.assert_close(half.logits.float(), single.logits, rtol=0.05, atol=0.05)
    assert next(network.parameters()).dtype == torch.float32


def test_weights_loaded_after_freezing_are_used() -> None:
    network = create_model("resnet8", num_classes=10)
    teacher = FrozenTeacher(network)
    network.fc.weight.zero_()
    network.fc.bias.fill_(3.0)
    assert torch.equal(teacher(torch.randn(1, 3, 8, 8)).logits, torch.full((1, 10), 3.0))


def test_chance_level_is_refused() -> None:
    assert default_min_accuracy(100) == pytest.approx(0.02)
    assert default_min_accuracy(10) == pytest.approx(0.2)
    assert default_min_accuracy(2) == pytest.approx(0.75)  # twice chance would ask for a perfect teacher
    check_accuracy(0.5, minimum=0.2, source="x")
    check_accuracy(0.0, minimum=0, source="x")
    with pytest.raises(InputError, match=r"teacher x.pth: accuracy 9.0% .* below teacher.min_accuracy=0.2"):
        check_accuracy(0.09, minimum=0.2, source="x.pth")


def test_score_refuses_logits_that_are_infinite() -> None:
    """Such a teacher can have the right classes."""
    network = create_model("resnet8", num_classes=10)
    network.fc.bias.data[3] = float("inf")
    batches = [(torch.randn(2, 3, 8, 8), torch.full((2,), 3))]
    with pytest.raises(InputError, match="teacher: its logits are NaN or infinite"):
        score(FrozenTeacher(network), batches, torch.device("cpu"), Classification())
