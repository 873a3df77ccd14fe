"""The moving average of the student."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor, nn

from stkd_lightning import DistillationModule
from stkd_lightning.callbacks import EMA, Checkpoints
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.losses import CrossEntropyLoss, STKDLoss
from stkd_lightning.models import create_model
from stkd_lightning.models.weights import load_weights
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import InputError
from tests.distillation.test_module import trainer


class Watch(L.Callback):
    """Keeps the student after each step."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, DistillationModule)
        self.states.append({k: v.clone() for k, v in pl_module.student.state_dict().items()})


def test_it_is_the_average_that_a_loop_makes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))
    expected = {k: v.clone() for k, v in network.state_dict().items()}
    teacher = FrozenTeacher(create_model("resnet8", num_classes=10))
    watch = Watch()
    fitting = trainer(tmp_path, max_epochs=2, callbacks=[watch, EMA(0.3), Checkpoints(tmp_path, select=True)])
    module = DistillationModule(network, STKDLoss(), teacher)
    fitting.fit(module, DigitsDataModule())
    for n, state in enumerate(watch.states):
        decay = min(0.3, (1 + n) / (10 + n))
        for name, value in state.items():
            floating = value.is_floating_point()
            expected[name] = decay * expected[name] + (1 - decay) * value if floating else value
    for name, value in network.state_dict().items():
        assert torch.allclose(value, expected[name], rtol=1e-4, atol=1e-6), name
    # What is kept is what was measured.
    saved = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))
    load_weights(saved, tmp_path / "last.ckpt")
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in saved.state_dict().items())
    figures = fitting.test(module, DigitsDataModule(), verbose=False)[0]
    again = trainer(tmp_path).test(DistillationModule(saved, STKDLoss(), teacher), DigitsDataModule(), verbose=False)[0]
    assert figures == again


def test_outside_of_training_the_student_is_measured_as_it_is(tmp_path: Path) -> None:
    fitting = trainer(tmp_path, callbacks=[EMA(0.9)])
    module = DistillationModule(
        create_model("resnet8", num_classes=10), STKDLoss(), FrozenTeacher(create_model("resnet8", num_classes=10))
    )
    before = fitting.validate(module, DigitsDataModule(), verbose=False)
    fitting.fit(module, DigitsDataModule())
    after = fitting.validate(module, DigitsDataModule(), verbose=False)
    assert before[0].keys() == after[0].keys()
    assert before != after


def test_training_is_that_of_a_run_without_it(tmp_path: Path) -> None:
    states = []
    for callbacks in ([], [EMA(0.9)]):
        torch.manual_seed(0)
        watch = Watch()
        module = DistillationModule(
            create_model("resnet8", num_classes=10), STKDLoss(), FrozenTeacher(create_model("resnet8", num_classes=10))
        )
        trainer(tmp_path, max_epochs=2, callbacks=[watch, *callbacks]).fit(module, DigitsDataModule())
        states.append(watch.states)
    for one, other in zip(*states, strict=True):
        assert all(torch.equal(v, other[k]) for k, v in one.items())


def test_a_decay_outside_its_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"callbacks.ema.decay=1.5: must be in \[0, 1\]"):
        EMA(1.5)


def test_a_module_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="EMA averages the student of a DistillationModule"):
        trainer(tmp_path, callbacks=[EMA()]).fit(BoringModel())


def test_the_average_of_half_precision_weights_is_exact(tmp_path: Path) -> None:
    """In bfloat16 a change of a thousandth would be lost."""
    watch, ema = Watch(), EMA(0.999)
    average: dict[str, Tensor] = {}

    class Average(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            average.update(ema.average)

    module = DistillationModule(create_model("resnet8", num_classes=10), CrossEntropyLoss())
    first = module.student.state_dict()["conv1.weight"].clone().double()
    options: dict[str, Any] = {"precision": "bf16-true", "callbacks": [watch, ema, Average()]}
    trainer(tmp_path, max_epochs=2, **options).fit(module, DigitsDataModule())
    for n, state in enumerate(watch.states):
        decay = min(0.999, (1 + n) / (10 + n))
        first = decay * first + (1 - decay) * state["conv1.weight"].double()
    assert state["conv1.weight"].dtype == torch.bfloat16
    torch.testing.assert_close(average["conv1.weight"].double(), first, rtol=1e-5, atol=1e-6)
