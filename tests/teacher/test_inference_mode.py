"""A teacher whose first images came in inference mode, as in a validation before training."""

from pathlib import Path

import lightning as L
import pytest
import torch

from stkd_lightning import DistillationModule, Mixup
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.losses import STKDLoss, WeightedSum
from stkd_lightning.losses.fitnet import FitNetLoss
from stkd_lightning.models import create_model
from stkd_lightning.teacher import FrozenTeacher


def weights_after(folder: Path, *, compile: bool, validate: bool, sanity: int = 0) -> dict[str, torch.Tensor]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    teacher = FrozenTeacher(create_model("resnet8", num_classes=10), compile=compile)
    student = create_model("resnet8", num_classes=10)
    loss = WeightedSum({"stkd": STKDLoss(), "hint": FitNetLoss()})
    module = DistillationModule(student, loss, teacher, Mixup(), compile=compile)
    trainer = L.Trainer(
        max_epochs=1, limit_train_batches=3, limit_val_batches=1, accelerator="cpu", logger=False,
        num_sanity_val_steps=sanity, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        enable_checkpointing=False, use_distributed_sampler=False,
    )  # fmt: skip
    data = DigitsDataModule()
    if validate:
        trainer.validate(module, data, verbose=False)
        check_copies(module)
    trainer.fit(module, data)
    check_copies(module)
    return {name: value.clone() for name, value in module.state_dict().items()}


def check_copies(module: DistillationModule) -> None:
    """Assert that training can use all tensors of the teacher's copies."""
    assert module.teacher is not None
    assert module.teacher._copies
    for copy in module.teacher._copies.values():
        tensors = copy._tap.network.state_dict(keep_vars=True).values()
        assert not any(tensor.is_inference() for tensor in tensors)


@pytest.mark.parametrize("compile", [False, True])
def test_training_after_a_validation_equals_one_without(compile: bool, tmp_path: Path) -> None:
    fresh = weights_after(tmp_path, compile=compile, validate=False)
    for options in ({"validate": True}, {"validate": False, "sanity": 1}):
        after = weights_after(tmp_path, compile=compile, **options)
        assert all(torch.equal(value, after[name]) for name, value in fresh.items()), options


def test_teacher_in_inference_mode_serves_training() -> None:
    network = create_model("resnet8", num_classes=10)
    teacher = FrozenTeacher(network)
    with torch.inference_mode():
        images = torch.randn(2, 3, 32, 32)
        assert teacher(images).logits.is_inference()
    logits = teacher(torch.randn(2, 3, 32, 32)).logits
    assert not logits.is_inference()
    assert not any(v.is_inference() for c in teacher._copies.values() for v in c._tap.network.parameters())
