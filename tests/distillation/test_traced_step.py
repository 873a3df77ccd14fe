"""A step as one trace: its terms and gradients, and the trainings that have one."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader, TensorDataset

from stkd_lightning import CutMix, DistillationModule, Mixup, MixupOrCutMix
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.data.arrays import Split
from stkd_lightning.data.augment import CropAndFlip
from stkd_lightning.data.batches import Normalize, ResidentBatch
from stkd_lightning.data.loader import TrainLoader
from stkd_lightning.data.sampling import shuffled
from stkd_lightning.distillation import epoch_steps
from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.distillation.traced_step import TracedStep
from stkd_lightning.losses import (
    ATLoss,
    CATKDLoss,
    CCKDLoss,
    CRDLoss,
    CrossEntropyLoss,
    CSDLoss,
    CTKDLoss,
    CWDFeatureLoss,
    CWDLoss,
    DISTLoss,
    DKDLoss,
    FitNetLoss,
    IUSPLoss,
    KDLoss,
    Loss,
    NKDLoss,
    NSTLoss,
    PixelKDLoss,
    PKTLoss,
    PSDLoss,
    ReviewKDLoss,
    RKDLoss,
    SKDLoss,
    SPLoss,
    STKDLoss,
    VIDLoss,
    WeightedSum,
    WTTMLoss,
)
from stkd_lightning.models import create_model
from stkd_lightning.tasks.types import StepContext
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import InputError, RunError

MAPS = {"student_layers": "layer3", "teacher_layers": "layer3"}
TRACEABLE = {
    "at": ATLoss,
    "cat_kd": partial(CATKDLoss, normalize=True),
    "cckd": CCKDLoss,
    "ce": CrossEntropyLoss,
    "csd": partial(CSDLoss, **MAPS),
    "cwd": partial(CWDLoss, **MAPS),
    "cwd_feature": partial(CWDFeatureLoss, student_layers="layer2", teacher_layers="layer3"),
    "dist": DISTLoss,
    "dkd": partial(DKDLoss, warmup=0),
    "fitnet": FitNetLoss,
    "iusp": partial(IUSPLoss, **MAPS),
    "kd": KDLoss,
    "kd, standardized": partial(KDLoss, standardize=True),
    "nkd": NKDLoss,
    "nst": NSTLoss,
    "pixel_kd": partial(PixelKDLoss, **MAPS),
    "pkt": PKTLoss,
    "psd": PSDLoss,
    "reviewkd": partial(ReviewKDLoss, warmup=0),
    "rkd": RKDLoss,
    "skd": partial(SKDLoss, **MAPS),
    "sp": SPLoss,
    "stkd": STKDLoss,
    "stkd, clean and mixed": partial(STKDLoss, hard_label="teacher", mixed_weight=0.5),
    "stkd, weighted": partial(STKDLoss, incorrect_weight=1.0),
    "sum": lambda: WeightedSum({"kd": KDLoss(), "sp": SPLoss()}, {"sp": 2.0}),
    "vid": VIDLoss,
    "wttm": WTTMLoss,
}
SPLIT = Split(
    torch.from_numpy(np.random.default_rng(0).integers(0, 256, (100, 3, 8, 8), dtype=np.uint8)),
    torch.arange(100) % 10,
)


def loader(epoch: int = 0) -> TrainLoader:
    batches = TrainLoader(
        SPLIT,
        np.arange(80),
        order=partial(shuffled, samples=80, batch_size=8),
        batch_size=8,
        normalize=Normalize((0.5,) * 3, (0.2,) * 3),
        augmentation=CropAndFlip(padding=1, flip=True),
        seed=0,
    )
    batches.set_epoch(epoch)
    return batches


def module(loss: nn.Module, **options: Any) -> DistillationModule:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "student": create_model("resnet8", num_classes=10),
        "teacher": FrozenTeacher(create_model("resnet14", num_classes=10)),
        "mixup": Mixup(1.0),
        "example": torch.zeros(1, 3, 8, 8),
    }
    return DistillationModule(loss=loss, **{**settings, **options}).train()


def gradients(of: DistillationModule, objective: torch.Tensor) -> list[torch.Tensor]:
    parameters = [p for p in of.parameters() if p.requires_grad]
    found = torch.autograd.grad(objective, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


KINDS = [
    Mixup(1.0, k=3, per_sample=True, probability=0.5),
    Mixup(1.0, fraction=0.5),
    None,
    Mixup(1.0, keep=True),
    Mixup(1.0, keep=True, forwards=2),
    Mixup(1.0, partner="other_class", dominant=True),
    CutMix(per_sample=True),
    MixupOrCutMix(1.0),
]


@pytest.mark.parametrize(
    ("name", "mixup"),
    [
        *((name, Mixup(1.0)) for name in TRACEABLE),
        *(("stkd", kind) for kind in KINDS),
        ("stkd, clean and mixed", KINDS[3]),
    ],
)
def test_one_trace_equals_the_parts(name: str, mixup: Mixing | None) -> None:
    """The same terms and gradients in two epochs, from one graph."""
    distillation = module(TRACEABLE[name](), mixup=mixup)
    assert distillation.loss.traceable
    torch._dynamo.reset()
    counters.clear()
    step = None
    for epoch in (0, 1):
        for i, batch in enumerate(loader(epoch)):
            assert isinstance(batch, ResidentBatch)
            draws = mixup.table(epoch, range(10), 8, sides=(8, 8))[0] if mixup else None
            if step is None:
                parts = distillation._step._parts(batch.images)
                step = TracedStep(parts, batch.epoch, mixup, draws, backend="aot_eager")
            elif i == 0:
                step.begin(batch.epoch, draws)
            if i not in (0, 3):
                continue
            state = {key: value.clone() for key, value in distillation.state_dict().items()}
            step.position.fill_(i)
            names, values = step()
            traced = gradients(distillation, values.sum())
            distillation.load_state_dict(state)
            terms = distillation.terms(batch, StepContext(epoch, 2, i, batch.indices))
            assert names == tuple(terms)
            torch.testing.assert_close(values, torch.stack(list(terms.values())))
            by_parts = gradients(distillation, torch.stack(list(terms.values())).sum())
            for one, other in zip(traced, by_parts, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_losses_with_a_state_or_a_schedule_are_not_traceable() -> None:
    for loss in (
        CRDLoss(num_samples=10),
        CTKDLoss(),
        DKDLoss(),
        ReviewKDLoss(),
        WeightedSum({"kd": KDLoss(), "dkd": DKDLoss()}),
    ):
        assert not loss.traceable
    assert not Loss.traceable  # a user's loss says so by itself


def trainer(folder: Path, **options: Any) -> L.Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
        "limit_train_batches": 6,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return L.Trainer(**{**settings, **options})


def trained(folder: Path, *, trainer_options: dict[str, Any] | None = None, **options: Any) -> dict[str, torch.Tensor]:
    distillation = module(options.pop("loss", STKDLoss()), compile=True, **options)
    trainer(folder, **trainer_options or {}).fit(distillation, DigitsDataModule())
    return distillation.state_dict()


@pytest.fixture
def traced_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace on the CPU, by a backend that generates no code."""
    compiler = torch.compile

    def without_code(function: Any, *, mode: str | None = None, **options: Any) -> Any:
        return compiler(function, backend="aot_eager", **options)

    monkeypatch.setattr(epoch_steps, "TRACED_DEVICES", ("cpu",))
    monkeypatch.setattr(torch, "compile", without_code)
    torch._dynamo.reset()
    counters.clear()


def test_training_by_one_trace_equals_training_by_parts(
    tmp_path: Path, traced_on_cpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_trace = trained(tmp_path)
    assert counters["stats"]["unique_graphs"] == 1
    monkeypatch.setattr(epoch_steps, "TRACED_DEVICES", ())
    by_parts = trained(tmp_path)
    for name, value in by_trace.items():
        torch.testing.assert_close(value, by_parts[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"loss": DKDLoss()}, "DKDLoss is not traceable"),
        ({"trainer_options": {"accumulate_grad_batches": 2}}, "trainer.accumulate_grad_batches=2"),
        ({"trainer_options": {"gradient_clip_val": 1.0}}, "trainer.gradient_clip_val=1.0"),
        ({"trainer_options": {"precision": "64-true"}}, "trainer.precision=64-true"),
        ({"look_ahead": 2}, "teacher.look_ahead=2"),
        ({"optimizer": partial(torch.optim.AdamW, lr=0.01)}, "the optimizer is AdamW, not a fused SGD"),
        ({"optimizer": partial(torch.optim.SGD, lr=0.01)}, "the optimizer is SGD, not a fused SGD"),
    ],
)
def test_a_graph_that_cannot_be_recorded_is_named(
    options: dict[str, Any], reason: str, tmp_path: Path, traced_on_cpus: None, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path, cuda_graph=True, **options)
    assert f"cuda_graph=true: the step is not recorded in one graph: {reason}\n" in capsys.readouterr().out


def test_ddp_of_one_rank_has_no_trace(tmp_path: Path, traced_on_cpus: None) -> None:
    fitting = trainer(tmp_path, strategy="ddp")
    assert epoch_steps.obstacle_to_trace(fitting) == "the strategy is DDPStrategy"


def test_the_graph_of_other_data_or_devices_is_named(
    tmp_path: Path, traced_on_cpus: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_steps, "TRACED_DEVICES", ())
    trained(tmp_path, cuda_graph=True, trainer_options={"max_epochs": 1})
    assert "the training runs on cpu" in capsys.readouterr().out
    monkeypatch.setattr(epoch_steps, "TRACED_DEVICES", ("cpu",))
    data = DataLoader(TensorDataset(torch.rand(8, 3, 16, 16), torch.arange(8)), batch_size=4)
    distillation = module(KDLoss(), compile=True, cuda_graph=True)
    trainer(tmp_path, max_epochs=1, limit_train_batches=1).fit(distillation, data)
    assert "the batches do not come from data on the training device" in capsys.readouterr().out


class Branching(nn.Module):
    """A network that decides by the values of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.network = create_model("resnet8", num_classes=10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images) if images.sum() > -1e9 else self.network(-images)


def test_a_network_without_one_trace_trains_by_parts(
    tmp_path: Path, traced_on_cpus: None, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    start = Branching()
    before = {f"student.{k}": v.clone() for k, v in start.state_dict().items()}
    after = trained(tmp_path, student=start)
    assert "student: the step does not make one trace: " in capsys.readouterr().out
    assert any(not torch.equal(after[name], value) for name, value in before.items())
    with pytest.raises(RunError, match="cuda_graph=true: the step does not make one trace: .*; set cuda_graph=false"):
        trained(tmp_path, student=Branching(), cuda_graph=True)


class Mine(Mixup):
    """Swaps labels too."""

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return super().forward(*arguments, **options)


class Counting(KDLoss):
    """Keeps a state."""

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return super().forward(*arguments, **options)


class Terms(DistillationModule):
    """Has terms of its own."""

    calls = 0

    def terms(self, *arguments: Any, **options: Any) -> Any:
        type(self).calls += 1
        return super().terms(*arguments, **options)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mixup": Mine()}, "Mine has a forward of its own"),
        ({"loss": Counting()}, "Counting is not traceable"),
    ],
)
def test_overridden_parts_are_not_traced(
    change: dict[str, Any], reason: str, tmp_path: Path, traced_on_cpus: None, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path, cuda_graph=True, trainer_options={"max_epochs": 1}, **change)
    assert f"not recorded in one graph: {reason}\n" in capsys.readouterr().out


def test_overridden_terms_are_used(tmp_path: Path, traced_on_cpus: None) -> None:
    torch.manual_seed(0)
    teacher = FrozenTeacher(create_model("resnet14", num_classes=10))
    distillation = Terms(create_model("resnet8", num_classes=10), KDLoss(), teacher, compile=True)
    trainer(tmp_path, max_epochs=1).fit(distillation, DigitsDataModule())
    assert Terms.calls == 6


class Manual(DistillationModule):
    """Steps by itself, with two optimizers."""

    automatic_optimization = False

    def configure_optimizers(self) -> Any:
        first, *others = self.student.parameters()
        return torch.optim.SGD([first], lr=0.1, fused=True), torch.optim.SGD(others, lr=0.1, fused=True)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(sum(self.terms(batch).values()))
        for optimizer in self.optimizers():
            optimizer.step()


def test_a_training_step_with_two_optimizers_trains(
    tmp_path: Path, traced_on_cpus: None, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    teacher = FrozenTeacher(create_model("resnet14", num_classes=10))
    student = create_model("resnet8", num_classes=10)
    before = [parameter.detach().clone() for parameter in student.parameters()]
    distillation = Manual(student, KDLoss(), teacher, compile=True, cuda_graph=True)
    trainer(tmp_path, max_epochs=1).fit(distillation, DigitsDataModule())
    assert all(not torch.equal(old, new) for old, new in zip(before, student.parameters(), strict=True))
    assert "Manual has a method training_step of its own" in capsys.readouterr().out


def test_accumulation_that_begins_later_is_seen(
    tmp_path: Path, traced_on_cpus: None, capsys: pytest.CaptureFixture[str]
) -> None:
    later = L.pytorch.callbacks.GradientAccumulationScheduler({1: 3})
    trained(tmp_path, cuda_graph=True, trainer_options={"callbacks": [later]})
    assert "not recorded in one graph: trainer.accumulate_grad_batches=" in capsys.readouterr().out


class Replaced(DigitsDataModule):
    """Replaces the batches in a hook, as an augmentation on the device does."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        inputs, *rest = batch
        return type(batch.batch)(inputs.flip(3), *rest) if isinstance(batch, ResidentBatch) else batch


def test_batches_that_a_hook_replaces_are_used(tmp_path: Path, traced_on_cpus: None) -> None:
    distillation = module(KDLoss(), compile=True)
    before = {key: value.clone() for key, value in distillation.state_dict().items()}
    trainer(tmp_path, max_epochs=1).fit(distillation, Replaced())
    assert any(not torch.equal(value, before[key]) for key, value in distillation.state_dict().items())
    with pytest.raises(InputError, match="cuda_graph=true: a hook replaces the data module's batches"):
        trainer(tmp_path, max_epochs=1).fit(module(KDLoss(), compile=True, cuda_graph=True), Replaced())


class Changes(L.Callback):
    """Changes a batch in place, and the mixing from the second epoch on."""

    def __init__(self, *, blank: bool = False, probability: float | None = None) -> None:
        self.blank, self.probability = blank, probability

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.blank:
            batch.inputs.zero_()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.probability is not None and trainer.current_epoch == 1:
            pl_module.mixup.probability = self.probability


def test_batches_that_a_callback_changes_are_used(tmp_path: Path) -> None:
    weights = []
    for blank in (False, True):
        distillation = module(KDLoss())
        trainer(tmp_path, max_epochs=1, callbacks=[Changes(blank=blank)]).fit(distillation, DigitsDataModule())
        weights.append(distillation.state_dict()["student.conv1.weight"])
    assert not torch.equal(*weights)


def test_mixing_may_end_between_epochs(tmp_path: Path, traced_on_cpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"trainer_options": {"callbacks": [Changes(probability=0.0)]}}
    by_trace = trained(tmp_path, mixup=Mixup(1.0), **options)
    monkeypatch.setattr(epoch_steps, "TRACED_DEVICES", ())
    by_parts = trained(tmp_path, mixup=Mixup(1.0), **options)
    for name, value in by_trace.items():
        torch.testing.assert_close(value, by_parts[name], rtol=1e-4, atol=1e-5)


def test_a_training_releases_its_trace(tmp_path: Path, traced_on_cpus: None) -> None:
    distillation = module(STKDLoss(), compile=True, cuda_graph=True)
    trainer(tmp_path, max_epochs=1).fit(distillation, DigitsDataModule())
    assert distillation._step._traced is None
    assert not distillation._step.recorded
