"""Trainings of some steps on synthesized sounds, for the checks: CNN6 -> a small tagger by cross-entropy and IUSP."""

from functools import partial
from typing import Any

import torch
from machine import device

from gpu.short_run import STEPS, Way, trained
from stkd_lightning import DistillationModule
from stkd_lightning.data import SyntheticSoundsDataModule
from stkd_lightning.losses import CrossEntropyLoss, IUSPLoss, WeightedSum
from stkd_lightning.models import LogMel, Tagger, cnn, crnn
from stkd_lightning.teacher import FrozenTeacher

FRONT_END: dict[str, Any] = {"window": 200, "hop": 80, "n_fft": 512, "f_max": 3800.0}


def sounds() -> SyntheticSoundsDataModule:
    """Return the data module; clips are turned in time and masked, so that these draws are checked too."""
    return SyntheticSoundsDataModule(batch_size=32, time_shift=0.1, time_masks=1, band_masks=1)


def networks(classes: int, rate: int, *, recurrent: bool) -> tuple[Tagger, Tagger]:
    """Return teacher and student with initial weights; their front ends differ."""
    torch.manual_seed(0)
    teacher = cnn(classes, "cnn6", 8, front_end=LogMel(rate, mels=40, **FRONT_END))
    front_end = LogMel(rate, mels=20, **FRONT_END)
    student = crnn(classes, 8, 24, front_end=front_end) if recurrent else cnn(classes, "cnn6", 4, front_end=front_end)
    return teacher, student


def losses(way: Way, *, recurrent: bool, steps: int = STEPS) -> list[float]:
    """Train for some batches, deterministically, and return the loss of each; options as those of ``short_run``."""
    data = sounds()
    data.prepare_data()
    teacher, student = networks(data.num_classes, data.sample_rate, recurrent=recurrent)
    options = dict(way.options)
    module = DistillationModule(
        student,
        WeightedSum({"ce": CrossEntropyLoss(), "iusp": IUSPLoss()}, {"iusp": 10.0}),
        FrozenTeacher(teacher, compile=options.get("compile", False)),
        optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9, fused=device().type == "cuda"),
        task=data.task,
        example=torch.zeros(1, *data.input_shape),
        **options,
    )
    return trained(module, data, way, steps)
