import copy
from pathlib import Path

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stkd_lightning import DistillationModule
from stkd_lightning.losses import SimKDLoss
from stkd_lightning.losses.base import Features
from stkd_lightning.models import FeatureTap, NetworkInspector, create_model, reuse_classifier
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import (
    output,
    waves,
)

TARGET = MixedTarget.unmixed(torch.tensor([0, 1]))
IMAGE = torch.zeros(1, 3, 32, 32)


def simkd(student: Tensor, teacher: Tensor) -> Tensor:
    loss = SimKDLoss()
    loss.features, loss._built = Features(("projected",), ("last",)), ((), ())
    return loss(output(projected=student), output(last=teacher), TARGET)["simkd"]


def reusing(student: str = "resnet8", teacher: str = "resnet8x4") -> nn.Module:
    return reuse_classifier(create_model(student, num_classes=10), create_model(teacher, num_classes=10))


def test_hand_computed_case() -> None:
    """The teacher's maps average to 1 and 2, the student's are 0 and 4: (1 + 4) / 2."""
    teacher = torch.tensor([[0.0, 1.0, 1.0, 2.0], [2.0, 2.0, 2.0, 2.0]], dtype=torch.float64).view(2, 1, 2, 2)
    student = torch.tensor([0.0, 4.0], dtype=torch.float64).view(2, 1, 1, 1)
    assert float(simkd(student, teacher)) == 2.5


@settings(max_examples=25, deadline=None)
@given(st.floats(-100, 100), st.integers(1, 6), st.integers(1, 6))
def test_of_maps_that_differ_by_a_constant_it_is_its_square(constant: float, own: int, other: int) -> None:
    student, teacher = torch.full((2, 3, own, own), constant, dtype=torch.float64), 0 * waves(2, 3, other, other)
    assert float(simkd(student, teacher)) == pytest.approx(constant**2, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(
    ("student", "teacher", "own", "other"),
    [
        ("resnet8", "resnet8x4", "avgpool.0", "layer3"),
        ("MobileNetV2", "vgg8", "avgpool.0", "relu4"),
        ("vgg8", "wrn_16_2", "avgpool.0", "relu"),
    ],
)
def test_all_of_the_student_but_the_classifier_learns(student: str, teacher: str, own: str, other: str) -> None:
    torch.manual_seed(0)
    network, trained, loss = reusing(student, teacher), create_model(teacher, num_classes=10).eval(), SimKDLoss()
    loss.prepare(NetworkInspector(network, IMAGE), NetworkInspector(trained, IMAGE))
    assert (loss.features.student, loss.features.teacher) == ((own,), (other,))
    images = torch.randn(2, 3, 32, 32)
    student_output = FeatureTap(network, loss.features.student)(images)
    teacher_output = FeatureTap(trained, loss.features.teacher)(images)
    loss(student_output, teacher_output, TARGET)["simkd"].backward()
    learning = {name for name, p in network.named_parameters() if p.grad is not None}
    assert learning == {name for name, p in network.named_parameters() if p.requires_grad}
    assert all(p.grad is None for p in trained.parameters())


def test_the_classifier_is_that_of_the_teacher_it_learns_from() -> None:
    """Also where the student was made before its teacher was trained."""
    network, trained = reusing(), create_model("resnet8x4", num_classes=10)
    assert not torch.equal(network.fc.weight, trained.fc.weight)
    SimKDLoss().prepare(NetworkInspector(network, IMAGE), NetworkInspector(trained, IMAGE))
    torch.testing.assert_close(network.fc.state_dict(), trained.fc.state_dict(), rtol=0, atol=0)
    assert not any(p.requires_grad for p in network.fc.parameters())
    assert network.fc.weight.data_ptr() != trained.fc.weight.data_ptr()


def test_training_leaves_the_classifier_alone(tmp_path: Path) -> None:
    network, trained = reusing(), create_model("resnet8x4", num_classes=10)
    module = DistillationModule(network, SimKDLoss(), FrozenTeacher(trained))
    projector = network.avgpool[0][0].weight.detach().clone()
    images = DataLoader(TensorDataset(torch.randn(8, 3, 16, 16), torch.randint(0, 10, (8,))), batch_size=4)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, images, images)
    optimized = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert optimized == {id(p) for name, p in network.named_parameters() if not name.startswith("fc.")}
    assert torch.equal(network.fc.weight, trained.fc.weight)
    assert not torch.equal(network.avgpool[0][0].weight, projector)


def test_a_students_weights_are_restored_without_its_teacher() -> None:
    network, trained = reusing(), create_model("resnet8x4", num_classes=10)
    SimKDLoss().prepare(NetworkInspector(network, IMAGE), NetworkInspector(trained, IMAGE))
    restored, images = reusing(), torch.randn(2, 3, 32, 32)
    restored.load_state_dict(network.state_dict())
    expected = copy.deepcopy(network).eval()(images)
    torch.testing.assert_close(restored.eval()(images), expected, rtol=0, atol=0)


def test_a_student_without_a_projector_is_refused() -> None:
    networks = [NetworkInspector(create_model("resnet8", num_classes=10), IMAGE) for _ in range(2)]
    words = (
        r"SimKDLoss: ResNet does not end in the teacher's classifier; build it with models.reuse_classifier\(student, t"
    )
    with pytest.raises(InputError, match=words):
        SimKDLoss().prepare(*networks)


def test_what_was_not_prepared_or_has_no_teacher_is_refused() -> None:
    with pytest.raises(RuntimeError, match="SimKDLoss is not fitted to the networks yet"):
        SimKDLoss()(output(s=waves(2, 3)), output(t=waves(2, 3)), TARGET)
    network, loss = reusing(), SimKDLoss()
    loss.prepare(NetworkInspector(network, IMAGE), NetworkInspector(create_model("resnet8x4", num_classes=10), IMAGE))
    with pytest.raises(ValueError, match="SimKDLoss needs a teacher"):
        loss(output(s=waves(2, 3)), None, TARGET)


@pytest.mark.parametrize(
    ("teacher", "classes", "shape"), [("resnet8x4", 7, r"\(7, 256\)"), ("resnet20", 10, r"\(10, 64\)")]
)
def test_a_classifier_of_another_teacher_is_refused(teacher: str, classes: int, shape: str) -> None:
    words = rf"ResNet ends in a classifier of shape \(10, 256\), the teacher's has {shape}; build it with models.reuse"
    with pytest.raises(InputError, match=words):
        SimKDLoss().prepare(
            NetworkInspector(reusing(), IMAGE), NetworkInspector(create_model(teacher, num_classes=classes), IMAGE)
        )
