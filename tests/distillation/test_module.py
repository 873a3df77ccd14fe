"""The modules in plain Lightning: the user's own data, no Hydra."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stkd_lightning import DistillationModule, Mixup, ModelOutput
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.losses import (
    CRDLoss,
    CrossEntropyLoss,
    DKDLoss,
    FitNetLoss,
    KDLoss,
    Loss,
    SPLoss,
    STKDLoss,
    Terms,
    WeightedSum,
)
from stkd_lightning.losses.base import Features
from stkd_lightning.models import create_model
from stkd_lightning.tasks.types import MixedTarget, StepContext
from stkd_lightning.teacher import FrozenTeacher


def trainer(folder: Path, **options: Any) -> L.Trainer:
    settings: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
        "limit_train_batches": 4,
    }
    return L.Trainer(**{**settings, **options})


def module(**options: Any) -> DistillationModule:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "student": create_model("resnet8", num_classes=10),
        "teacher": FrozenTeacher(create_model("resnet14", num_classes=10)),
        "loss": STKDLoss(),
        "mixup": Mixup(),
    }
    return DistillationModule(**{**settings, **options})


def test_the_teacher_is_bit_identical_after_fit(tmp_path: Path) -> None:
    network = create_model("resnet14", num_classes=10)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    distillation = module(teacher=FrozenTeacher(network))
    student = {k: v.clone() for k, v in distillation.student.state_dict().items()}
    distillation.train()
    assert distillation.teacher is not None
    distillation.teacher.train()
    network.train()  # even on the network itself
    trainer(tmp_path).fit(distillation, DigitsDataModule())
    assert not network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert any(not torch.equal(v, student[k]) for k, v in distillation.student.state_dict().items())


def test_the_teacher_is_in_no_checkpoint_optimizer_or_submodule(tmp_path: Path) -> None:
    distillation = module()
    fitting = trainer(tmp_path)
    fitting.fit(distillation, DigitsDataModule())
    fitting.save_checkpoint(tmp_path / "c.ckpt")
    state = torch.load(tmp_path / "c.ckpt", weights_only=True)["state_dict"]
    assert {k.split(".")[0] for k in state} == {"student"}
    optimized = sum(p.numel() for group in fitting.optimizers[0].param_groups for p in group["params"])
    assert optimized == sum(p.numel() for p in distillation.parameters()) == 78_042
    assert not any(isinstance(m, FrozenTeacher) for m in distillation.modules())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_precisions(precision: str, tmp_path: Path) -> None:
    fitting = trainer(tmp_path, precision=precision, limit_val_batches=1)
    fitting.fit(module(), DigitsDataModule())
    assert 0 <= float(fitting.callback_metrics["val/accuracy"]) <= 1


def test_terms_add_up_to_the_objective(tmp_path: Path) -> None:
    fitting = trainer(tmp_path, log_every_n_steps=2)
    fitting.fit(module(), DigitsDataModule())
    logged = fitting.callback_metrics
    parts = float(logged["train/similarity"]) + float(logged["train/cross_entropy"])
    assert float(logged["train/loss"]) == pytest.approx(parts, rel=1e-5)


def test_logged_terms_are_means_over_accumulated_batches(tmp_path: Path) -> None:
    seen: list[float] = []

    class Recording(DistillationModule):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            objective = super().training_step(batch, batch_idx)
            seen.append(objective.item())
            return objective

    torch.manual_seed(0)
    network = create_model("resnet8", num_classes=10)
    fitting = trainer(
        tmp_path, limit_train_batches=12, accumulate_grad_batches=3, log_every_n_steps=2, logger=CSVLogger(tmp_path)
    )
    fitting.fit(Recording(network, CrossEntropyLoss()), DigitsDataModule())
    rows = list(csv.DictReader((Path(fitting.logger.log_dir) / "metrics.csv").open()))
    logged = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert logged == pytest.approx([sum(seen[:6]) / 6, sum(seen[6:]) / 6], rel=1e-5)


def test_metrics_are_those_of_the_whole_set(tmp_path: Path) -> None:
    distillation, data = module(), DigitsDataModule()
    figures = trainer(tmp_path).test(distillation, data, verbose=False)[0]
    distillation.eval()
    assert distillation.teacher is not None
    student, teacher, labels = [], [], []
    with torch.no_grad():
        for batch in data.test_dataloader():
            student.append(distillation(batch.images))
            teacher.append(distillation.teacher(batch.images).logits)
            labels.append(batch.labels)
    s, t, y = torch.cat(student), torch.cat(teacher), torch.cat(labels)
    p, q = s.log_softmax(1), t.log_softmax(1)
    assert figures["test/accuracy"] == pytest.approx((s.argmax(1) == y).float().mean().item())
    assert figures["test/top5"] == pytest.approx((s.topk(5).indices == y[:, None]).any(1).float().mean().item())
    assert figures["test/agreement"] == pytest.approx((s.argmax(1) == t.argmax(1)).float().mean().item())
    assert figures["test/teacher_kl"] == pytest.approx((q.exp() * (q - p)).sum(1).mean().item(), rel=1e-4)
    assert figures["test/teacher_accuracy"] == pytest.approx((t.argmax(1) == y).float().mean().item())
    confidence, correct = p.exp().max(1).values, (s.argmax(1) == y).float()
    bins, error = (confidence * 15).ceil().clamp(min=1), 0.0
    for b in bins.unique():
        own = bins == b
        error += (own.float().mean() * (confidence[own].mean() - correct[own].mean()).abs()).item()
    assert figures["test/calibration_error"] == pytest.approx(error, abs=1e-5)


def test_the_same_seed_gives_the_same_student(tmp_path: Path) -> None:
    weights = []
    for _ in range(2):
        distillation = module()
        trainer(tmp_path, limit_val_batches=0).fit(distillation, DigitsDataModule())
        weights.append(distillation.student.fc.weight.detach().clone())
    assert torch.equal(*weights)


def test_a_users_own_loss_with_features_and_parameters(tmp_path: Path) -> None:
    class Hint(Loss):
        features = Features(student=("layer2",), teacher=("layer3",))

        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Conv2d(32, 64, 1, stride=2)

        def forward(
            self,
            student: ModelOutput,
            teacher: ModelOutput | None,
            target: MixedTarget,
            context: StepContext | None = None,
        ) -> Terms:
            assert teacher is not None
            assert context is not None
            assert context.indices is not None
            return {"hint": (self.project(student.features["layer2"]) - teacher.features["layer3"]).square().mean()}

    loss = WeightedSum({"kd": KDLoss(), "hint": Hint()}, {"hint": 10.0})
    before = loss.losses["hint"].project.weight.detach().clone()
    distillation = module(loss=loss, mixup=None)
    trainer(tmp_path).fit(distillation, DigitsDataModule())
    assert not torch.equal(loss.losses["hint"].project.weight, before)


def test_a_loss_without_a_teacher_never_calls_it(tmp_path: Path) -> None:
    class Counting(nn.Module):
        calls = 0

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            type(self).calls += 1
            return self.head(images.flatten(1))

    distillation = module(loss=CrossEntropyLoss(), teacher=FrozenTeacher(Counting()))
    trainer(tmp_path, limit_val_batches=0).fit(distillation, DigitsDataModule())
    assert Counting.calls == 0


class Asked(nn.Module):
    """Counts the batches it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.network = create_model("resnet8", num_classes=10)
        self.times = 0

    def __deepcopy__(self, memo: Any) -> "Asked":
        return self  # the copy that answers is the one that counts

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.times += 1
        return self.network(images)


def test_the_teacher_is_asked_once_for_images_that_return(tmp_path: Path) -> None:
    asked = Asked()
    watched = module(teacher=FrozenTeacher(asked), loss=CrossEntropyLoss())  # asked for its own likeness only
    fitting = trainer(tmp_path, max_epochs=3)
    fitting.fit(watched, DigitsDataModule())
    assert fitting.global_step == 3 * 4
    assert "val/agreement" in fitting.callback_metrics
    assert asked.times <= 1 + 3  # one batch of validation images, three looks at it when it is made constant


def test_a_replay_gives_the_same_student_without_the_teacher(tmp_path: Path) -> None:
    students, times = [], []
    for replay in (None, tmp_path / "replay", tmp_path / "replay"):
        torch.manual_seed(3)
        asked = Asked()
        torch.manual_seed(4)
        distillation = module(teacher=FrozenTeacher(asked), replay=replay)
        fitting = trainer(tmp_path, max_epochs=2, precision="bf16-mixed", num_sanity_val_steps=0)
        fitting.fit(distillation, DigitsDataModule())
        fitting.test(distillation, DigitsDataModule(), verbose=False)
        students.append(distillation.student.state_dict())
        times.append(asked.times)
    assert times[0] == times[1] > 0 == times[2]
    for other in students[1:]:
        assert all(torch.equal(v, other[k]) for k, v in students[0].items())


def test_a_student_is_measured_in_full_precision(tmp_path: Path) -> None:
    """The same figures whatever precision it trains in, so that an evaluation elsewhere repeats them."""
    teacher = create_model("resnet14", num_classes=10)
    figures = [
        trainer(tmp_path, precision=precision).test(
            module(teacher=FrozenTeacher(teacher)), DigitsDataModule(), verbose=False
        )[0]
        for precision in ("32-true", "bf16-mixed")
    ]
    assert figures[0]["test/cross_entropy"] == figures[1]["test/cross_entropy"]
    assert figures[0]["test/teacher_kl"] != figures[1]["test/teacher_kl"]  # the teacher as it teaches


class Hint(Loss):
    features = Features(student=("layer2",), teacher=("layer2",))

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        assert teacher is not None
        return {"hint": (student.features["layer2"] - teacher.features["layer2"]).float().square().mean()}


def test_compiled_networks_train_as_eager_ones(tmp_path: Path) -> None:
    losses = []
    for compile in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(6)
        teacher = FrozenTeacher(create_model("resnet8", num_classes=10), compile=compile)
        loss = WeightedSum({"stkd": STKDLoss(), "hint": Hint()})
        distillation = module(teacher=teacher, loss=loss, compile=compile)
        fitting = trainer(tmp_path, log_every_n_steps=4, logger=CSVLogger(tmp_path, version=str(compile)))
        torch.manual_seed(5)
        fitting.fit(distillation, DigitsDataModule())
        losses.append({k: float(v) for k, v in fitting.logged_metrics.items() if k.startswith(("train/", "val/"))})
    assert {"train/hint", "train/similarity", "val/cross_entropy"} <= losses[0].keys()
    for name, value in losses[0].items():
        assert losses[1][name] == pytest.approx(value, rel=0.02, abs=0.02), name


def test_a_missing_teacher_is_named() -> None:
    with pytest.raises(ValueError, match=r"STKDLoss needs a teacher: pass teacher=FrozenTeacher\(network\)"):
        module(teacher=None)


def test_plain_pairs_of_a_users_own_loader(tmp_path: Path) -> None:
    loader = DataLoader(TensorDataset(torch.randn(32, 3, 16, 16), torch.randint(0, 10, (32,))), batch_size=8)
    fitting = trainer(tmp_path)
    fitting.fit(module(), loader, loader)
    assert {"val/accuracy", "val/agreement"} <= set(fitting.callback_metrics)


def test_a_short_script_without_hydra(tmp_path: Path) -> None:
    """The script a user would write: fifteen lines, an own data module, and no Hydra loaded."""
    script = """
import sys, torch, lightning as L
from torch.utils.data import DataLoader, TensorDataset
from stkd_lightning import DistillationModule, Mixup
from stkd_lightning.losses import STKDLoss
from stkd_lightning.models import create_model
from stkd_lightning.teacher import FrozenTeacher
class Own(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.randn(64, 3, 32, 32), torch.randint(0, 5, (64,))), batch_size=16)
    val_dataloader = train_dataloader
teacher = FrozenTeacher(create_model("resnet14", num_classes=5))
module = DistillationModule(create_model("resnet8", num_classes=5), STKDLoss(alpha=0.9), teacher, Mixup(alpha=0.2))
L.Trainer(max_epochs=1, accelerator="cpu").fit(module, Own())
assert "hydra" not in sys.modules
"""
    lines = script.strip().splitlines()
    assert len(lines) <= 15
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("length", [{"max_steps": 12}, {"max_epochs": 3}, {"max_epochs": 9, "max_steps": 12}])
def test_warm_up_is_a_share_of_the_run_of_any_length(length: dict[str, int], tmp_path: Path) -> None:
    """Twelve steps of four an epoch are three epochs, two thirds of which the warm-up takes."""
    factors: list[float] = []

    class Watched(DKDLoss):
        def forward(self, student: Any, teacher: Any, target: Any, context: StepContext | None = None) -> Terms:
            assert context is not None
            factors.append(min(1.0, (context.epoch + 1) / (self.warmup * context.max_epochs)))
            return super().forward(student, teacher, target, context)

    trainer(tmp_path, **{"max_epochs": -1, **length}).fit(module(loss=Watched(warmup=2 / 3)), DigitsDataModule())
    assert factors == pytest.approx([0.5] * 4 + [1.0] * 8)


def test_a_loss_with_learned_parts_resumes_exactly(tmp_path: Path) -> None:
    def distillation() -> DistillationModule:
        loss = WeightedSum(
            {"ce": CrossEntropyLoss(), "fitnet": FitNetLoss(), "crd": CRDLoss(num_samples=1500, width=8)}
        )
        return module(loss=loss, mixup=None)

    whole, first, resumed = (distillation() for _ in range(3))
    trainer(tmp_path, max_epochs=2).fit(whole, DigitsDataModule())
    trainer(tmp_path / "first", max_epochs=2, limit_train_batches=4, callbacks=[StopAfter(1)]).fit(
        first, DigitsDataModule()
    )
    (checkpoint,) = (tmp_path / "first").rglob("*.ckpt")
    trainer(tmp_path / "rest", max_epochs=2).fit(resumed, DigitsDataModule(), ckpt_path=checkpoint)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


class StopAfter(L.Callback):
    """Ends a run after some epochs, as if it had been killed."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def test_parts_that_fit_are_kept_when_a_loss_is_prepared_again() -> None:
    loss = FitNetLoss()
    module(loss=loss)
    weights = loss.regressors[0][0].weight
    module(loss=loss)
    assert loss.regressors[0][0].weight is weights


def test_only_what_the_projects_losses_remember_is_kept_from_ddp() -> None:
    class Average(Loss):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))

    loss = WeightedSum({"own": Average(), "crd": CRDLoss(num_samples=20, width=4), "sp": SPLoss()})
    ignored = module(loss=loss, mixup=None)._ddp_params_and_buffers_to_ignore
    names = ("student_memory", "teacher_memory", "labels", "normalizers")
    assert ignored == [f"loss.losses.crd.{name}" for name in names]
