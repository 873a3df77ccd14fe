"""The compared trainings: the literature's loop, torchdistill, a plain Lightning module, and this package."""

import copy
import os
import time
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import data
import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger
from machine import device, synchronize
from pacing import Pacer
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning import DistillationModule, Mixup
from stkd_lightning.callbacks import ProgressBar, Throughput
from stkd_lightning.commands.training.determinism import set_determinism
from stkd_lightning.commands.training.fit import quiet
from stkd_lightning.data.batches import ResidentBatch
from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.distillation.optimizers import cifar_sgd
from stkd_lightning.losses import STKDLoss
from stkd_lightning.models import create_model
from stkd_lightning.tasks.types import Batch, StepContext
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.teacher.replay import RecordedPass, open_pass
from stkd_lightning.utilities.memory import keep_freed_memory

ALPHA, TEMPERATURE = 0.9, 4.0


def networks(pair: tuple[str, str], classes: int = 100) -> tuple[nn.Module, nn.Module]:
    """Return teacher and student with initial weights, which do not affect the speed."""
    torch.manual_seed(0)
    return create_model(pair[0], classes), create_model(pair[1], classes)


def mixed(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mix a batch like the literature's code."""
    weight = float(torch.distributions.Beta(1.0, 1.0).sample())
    partner = torch.randperm(len(images), device=images.device)
    return weight * images + (1 - weight) * images[partner], labels[partner], weight


def objective(student: Tensor, teacher: Tensor, labels: Tensor, others: Tensor, weight: float) -> Tensor:
    """Return STKD's objective, written for a plain loop."""
    hard = weight * F.cross_entropy(student, labels) + (1 - weight) * F.cross_entropy(student, others)
    log_student = F.log_softmax(student / TEMPERATURE, 1)
    soft = F.kl_div(log_student, F.softmax(teacher / TEMPERATURE, 1), reduction="batchmean") * TEMPERATURE**2
    return (1 - ALPHA) * hard + ALPHA * soft


def reference(connection: Connection, pair: tuple[str, str], batch_size: int) -> None:
    """Train with the literature's recipe: float32, a DataLoader with torchvision's transforms, a plain loop."""
    teacher, student = (n.to(device()) for n in networks(pair))
    teacher.eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    batches, pacer = data.loader(batch_size), Pacer(connection)
    while True:
        for images, labels in batches:
            images, labels = images.to(device()), labels.to(device())
            virtual, others, weight = mixed(images, labels)
            with torch.no_grad():
                taught = teacher(virtual)
            loss = objective(student(virtual), taught, labels, others, weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()  # read by the recipe's meters
            pacer.after_step()


def torchdistill(connection: Connection, pair: tuple[str, str], batch_size: int) -> None:
    """Train with torchdistill's DistillationBox and KDLoss, without mixing, which is less work."""
    from torchdistill.core.distillation import get_distillation_box

    teacher, student = (n.to(device()) for n in networks(pair))
    logits = {
        "student_module_path": ".",
        "student_module_io": "output",
        "teacher_module_path": ".",
        "teacher_module_io": "output",
    }
    workers = len(os.sched_getaffinity(0))
    config: dict[str, Any] = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "requires_supp": True,
            "sampler": {"class_or_func": torch.utils.data.RandomSampler, "kwargs": {}},
            "kwargs": {"batch_size": batch_size, "num_workers": workers, "drop_last": True},
        },
        "teacher": {"forward_proc": "forward_batch_only", "sequential": [], "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only", "sequential": []},
        "optimizer": {"key": "SGD", "kwargs": {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {
                "sub_terms": {
                    "kd": {
                        "criterion": {
                            "key": "KDLoss",
                            "kwargs": {**logits, "temperature": TEMPERATURE, "alpha": 1 - ALPHA},
                        },
                        "weight": 1.0,
                    }
                }
            },
        },
    }
    box = get_distillation_box(
        teacher, student, {"train": data.dataset()}, config, device(), None, distributed=False, lr_factor=1
    )
    pacer = Pacer(connection)
    while True:
        box.pre_epoch_process(epoch=0)
        for images, labels, supplement in box.train_data_loader:
            images, labels = images.to(device()), labels.to(device())
            loss = box.forward_process(images, labels, supplement)
            box.post_forward_process(loss)
            pacer.after_step()


class Plain(L.LightningModule):
    """A distillation module written by hand."""

    def __init__(self, teacher: nn.Module, student: nn.Module) -> None:
        super().__init__()
        self.teacher, self.student = teacher.eval().requires_grad_(False), student

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        virtual, others, weight = mixed(images, labels)
        with torch.no_grad():
            taught = self.teacher(virtual)
        loss = objective(self.student(virtual), taught, labels, others, weight)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


class Pacing(L.Callback):
    """Callback that reports every step to the pacer."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.pacer = Pacer(self.connection)

    def on_train_batch_end(self, *arguments: Any, **options: Any) -> None:
        self.pacer.after_step()


def unseen() -> dict[str, Any]:
    """Return the options of a rich progress bar on a terminal without a display."""
    return {"force_terminal": True, "file": open(os.devnull, "w")}


def fit(
    module: L.LightningModule,
    batches: Any,
    connection: Connection,
    folder: Path | None,
    precision: str,
    bar: L.Callback | None,
) -> None:
    """Train with Lightning, with the given progress bar and CSV log, until the pacer stops it."""
    quiet()
    warnings.filterwarnings("ignore")
    trainer = L.Trainer(
        accelerator=device().type,
        devices=1,
        max_epochs=1000,
        precision=precision,  # type: ignore[arg-type]
        callbacks=[*([Throughput(), bar] if bar else []), Pacing(connection)],
        logger=CSVLogger(folder, name="", version="") if folder else False,
        enable_progress_bar=bar is not None,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, batches)


def plain_lightning(connection: Connection, pair: tuple[str, str], batch_size: int, folder: Path) -> None:
    """Train a Lightning module written by hand, in float32, with the literature's loader."""
    from lightning.pytorch.callbacks import RichProgressBar

    bar = RichProgressBar(console_kwargs=unseen())
    fit(Plain(*networks(pair)), data.loader(batch_size), connection, folder, "32-true", bar)


def distillation(
    pair: tuple[str, str],
    *,
    classes: int = 100,
    compile: bool = False,
    replay: Path | None = None,
    mixup: Mixing | None = None,
    **options: Any,
) -> DistillationModule:
    """Return this package's module for a pair of networks; other options are the module's."""
    teacher, student = networks(pair, classes)
    return DistillationModule(
        student,
        STKDLoss(alpha=ALPHA, temperature=TEMPERATURE),
        FrozenTeacher(teacher, compile=compile),
        mixup or Mixup(alpha=1.0),
        cifar_sgd,
        compile=compile,
        replay=replay,
        **options,
    )


def recorded(folder: Path, batches: int, batch_size: int, epochs: int = 4) -> Path:
    """Record some epochs of logits in a replay folder, and return it; their values do not affect the speed."""
    images, logits = torch.empty(batch_size, 0), torch.randn(batch_size, 100).bfloat16()
    for epoch in range(epochs):
        epoch_pass = open_pass(folder, f"epoch-{epoch}", batches)
        if isinstance(epoch_pass, RecordedPass):
            for position in range(batches):
                epoch_pass.logits(position, images, lambda: logits)
        epoch_pass.end()
    return folder


def ours(
    connection: Connection,
    pair: tuple[str, str],
    batch_size: int,
    folder: Path,
    precision: str,
    compile: bool = False,
    replay: bool = False,
    deterministic: Literal["auto"] | bool = "auto",
    **options: Any,
) -> None:
    """Train this package's module with Lightning's trainer; other options are the module's."""
    set_determinism(deterministic)
    batches = data.data_module(batch_size=batch_size, validation_fraction=0)
    count = len(batches.train_dataloader())
    epochs = 16 if device().type == "cuda" else 4  # more than a measurement takes
    kept = recorded(folder / "replay", count, batch_size, epochs) if replay else None
    fit(
        distillation(pair, compile=compile, replay=kept, **options),
        batches,
        connection,
        folder,
        precision,
        ProgressBar(console_kwargs=unseen()),
    )


class _AtDevice:
    """The part of a trainer that a data module reads."""

    class strategy:  # noqa: N801
        root_device = device()


def epochs(batch_size: int) -> Iterator[tuple[StepContext, Batch | ResidentBatch]]:
    """Yield this package's batches without end."""
    module = data.data_module(batch_size=batch_size, validation_fraction=0)
    module.trainer = _AtDevice()  # type: ignore[assignment]
    batches, epoch = module.train_dataloader(), 0
    while True:
        batches.set_epoch(epoch)
        for step, batch in enumerate(batches):
            yield StepContext(epoch, 1000, step, batch.indices), batch
        epoch += 1


def bare(connection: Connection, pair: tuple[str, str], batch_size: int, precision: str, compile: bool = False) -> None:
    """Train this package's module in a loop without Lightning."""
    keep_freed_memory()
    module = distillation(pair, compile=compile).to(device())
    optimizer = cifar_sgd(module.student.parameters())
    half, pacer = precision == "bf16-mixed", Pacer(connection)
    for context, batch in epochs(batch_size):
        with torch.autocast(device().type, torch.bfloat16, enabled=half):
            terms = module.terms(batch, context)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        pacer.after_step()


def parts(
    connection: Connection, pair: tuple[str, str], batch_size: int, precision: str, compile: bool = False
) -> None:
    """Train in the same loop and time each part; on a GPU this adds waits."""
    keep_freed_memory()
    module = distillation(pair, compile=compile).to(device())
    optimizer = cifar_sgd(module.student.parameters())
    half, pacer = precision == "bf16-mixed", Pacer(connection)
    batches = epochs(batch_size)
    teacher = module.teacher
    assert teacher is not None

    def clock(part: str, since: float) -> float:
        synchronize()
        now = time.perf_counter()
        pacer.extra[part] = pacer.extra.get(part, 0.0) + now - since
        return now

    while True:
        start = time.perf_counter()
        context, batch = next(batches)
        with torch.autocast(device().type, torch.bfloat16, enabled=half):
            virtual = module.virtual(batch, context)
            start = clock("data", start)
            taught = teacher(virtual.images)
            start = clock("teacher", start)
            student = type(taught)(*module._step.run_student(virtual.images))
            terms = module.loss(student, taught, virtual.target, context)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        clock("student", start)
        pacer.after_step()


class Trivial(nn.Module):
    """A network without cost."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 100)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images[:, :, 0, 0])


class PlainStep(L.LightningModule):
    """This package's module with the least of Lightning: no schedule, no log, no callbacks."""

    def __init__(self, module: DistillationModule) -> None:
        super().__init__()
        self.module = module

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        batch = Batch(*batch)
        terms = self.module.terms(batch, StepContext(self.current_epoch, 1000, batch_idx, batch.indices))
        return torch.stack(list(terms.values())).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return cifar_sgd(self.module.student.parameters())


def trivial(connection: Connection, folder: Path, framework: str) -> None:
    """Train networks without cost, to measure the cost of the framework.

    Args:
        connection: connection to the process that requests steps.
        folder: folder for logs.
        framework: ``ours``: everything in a run; ``lightning``: only Lightning's loop; ``bare``: a loop without
            Lightning.
    """
    keep_freed_memory()
    student = Trivial()
    module = DistillationModule(student, STKDLoss(), FrozenTeacher(copy.deepcopy(student)), Mixup(alpha=1.0), cifar_sgd)
    batches = data.data_module(batch_size=64, validation_fraction=0)
    if framework == "ours":
        fit(module, batches, connection, folder, "32-true", ProgressBar(console_kwargs=unseen()))
    if framework == "lightning":
        fit(PlainStep(module), batches, connection, None, "32-true", None)
    module.to(device())
    optimizer, pacer = cifar_sgd(module.student.parameters()), Pacer(connection)
    for context, batch in epochs(64):
        torch.stack(list(module.terms(batch, context).values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        pacer.after_step()
