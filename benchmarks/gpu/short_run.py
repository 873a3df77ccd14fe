"""Trainings of some steps on the embedded digits, for the checks: resnet14 -> resnet8 by STKD."""

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning as L
from contestants import distillation
from machine import device
from torch import Tensor

from stkd_lightning import DistillationModule
from stkd_lightning.commands.training.determinism import set_determinism
from stkd_lightning.commands.training.fit import quiet
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.data.batches import ResidentBatch
from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.tasks.types import Batch, StepContext

STEPS = 50
BATCH_SIZE = 64
PAIR = ("resnet14", "resnet8")


@dataclass(frozen=True)
class Way:
    """A way to train.

    Attributes:
        precision: Lightning's name.
        options: options of ``DistillationModule`` and of the teacher, for example ``compile``.
        trainer: options of Lightning's trainer.
    """

    precision: str = "32-true"
    options: tuple[tuple[str, Any], ...] = ()
    trainer: tuple[tuple[str, Any], ...] = ()


def digits() -> DigitsDataModule:
    """Return the data module; the images are flipped, so that this draw is checked too."""
    return DigitsDataModule(batch_size=BATCH_SIZE, flip=True)


class _AtDevice:
    """The part of a trainer that a data module reads."""

    class strategy:  # noqa: N801
        root_device = device()


def batches(steps: int) -> Iterator[tuple[Batch | ResidentBatch, StepContext]]:
    """Yield the batches of the first steps on the device."""
    data = digits()
    data.trainer = _AtDevice()  # type: ignore[assignment]
    loader = data.train_dataloader()
    for start in range(0, steps, len(loader)):
        epoch = start // len(loader)
        loader.set_epoch(epoch)
        for step, batch in zip(range(min(len(loader), steps - start)), loader, strict=False):
            yield batch, StepContext(epoch, 1000, step, batch.indices)


def digests(mixup: Mixing | None = None, steps: int = STEPS) -> list[str]:
    """Return the digest of the bits of each step's virtual images; by default of mixup with alpha 1."""
    module = distillation(PAIR, mixup=mixup).to(device())
    return [_digest(module.virtual(batch, context).inputs) for batch, context in batches(steps)]


def _digest(images: Tensor) -> str:
    return hashlib.sha256(images.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


class Losses(L.Callback):
    """Keeps the loss of each batch."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.recorded = False

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self.values.append(loss.detach().clone())
        self.recorded = pl_module._step.recorded


def losses(way: Way, steps: int = STEPS) -> list[float]:
    """Train for some batches, deterministically, and return the loss of each.

    Raises:
        RuntimeError: one graph was wanted, and the step was not recorded in it.
    """
    return trained(distillation(PAIR, classes=10, **dict(way.options)), digits(), way, steps)


def trained(module: DistillationModule, data: L.LightningDataModule, way: Way, steps: int) -> list[float]:
    """Train a module for some batches, deterministically, and return the loss of each.

    Raises:
        RuntimeError: one graph was wanted, and the step was not recorded in it.
    """
    quiet()
    warnings.filterwarnings("ignore")
    kept, options = Losses(), dict(way.trainer)
    set_determinism("auto")
    trainer = L.Trainer(
        accelerator=device().type,
        devices=1,
        precision=way.precision,  # type: ignore[arg-type]
        max_steps=-(-steps // options.get("accumulate_grad_batches", 1)),
        callbacks=[kept],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        **options,
    )
    trainer.fit(module, data)
    if dict(way.options).get("cuda_graph") and not kept.recorded:
        raise RuntimeError("the step was not recorded in one graph")
    return [float(value) for value in kept.values]
