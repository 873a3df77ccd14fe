"""The plan that ``train`` prints without options: the default run, and how to start it or a smaller one."""

from datetime import timedelta
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from stkd_lightning.commands.config.compose import composed, composing, with_values
from stkd_lightning.commands.training.precision import device_type, eager_seconds
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.models.start import without_start
from stkd_lightning.utilities.paths import cache_root

# CIFAR-100, the default data set: known here, so that the plan needs no download.
CLASSES, TRAIN_IMAGES, TEST_IMAGES, SIDE = 100, 50_000, 10_000, 32
DOWNLOAD_GB, PREPARED_GB = 0.17, 0.4  # the archive; its files and the prepared arrays


def plan_text() -> str:
    """Return the plan of the default run: data, networks, epochs, and about how much time and disk it takes."""
    with composing():
        config = with_values(composed("train", []), {"num_classes": CLASSES})
    student, teacher = (instantiate(without_start(node)) for node in (config.student, config.teacher.network))
    epochs, teacher_epochs = config.trainer.max_epochs, config.teacher.max_epochs
    images = int(TRAIN_IMAGES * (1 - config.dataset.validation_fraction))
    steps = images // config.dataset.batch_size
    # Forward and backward take three times the operations of forward; the teacher only answers the student.
    teachers_work, students_work = flops(teacher, SIDE), 3 * flops(student, SIDE) + flops(teacher, SIDE)
    work = images * (3 * teacher_epochs * teachers_work + epochs * students_work)
    device = device_type(config.trainer)
    seconds = eager_seconds(device, work, steps * (epochs + teacher_epochs))
    weights_gb = 4 * (3 * parameters(teacher) + 6 * parameters(student)) / 1e9  # with momentum; last.ckpt and best.ckpt
    return "\n".join(
        [
            "Without options the default run would be trained. Nothing has been started or downloaded.",
            "",
            f"data      cifar100: {TRAIN_IMAGES:,} + {TEST_IMAGES:,} images of {SIDE}x{SIDE}, {_location(config)}",
            f"teacher   {config.teacher.network.name}: {parameters(teacher):,} parameters, {teacher_epochs} epochs, "
            "once; teacher.checkpoint=FILE takes a trained one",
            f"student   {config.student.name}: {parameters(student):,} parameters, {epochs} epochs with loss=stkd",
            f"time      {_duration(seconds)} on this machine's {_device_name(device)}",
            f"disk      about {DOWNLOAD_GB + PREPARED_GB + weights_gb:.1f} GB in {config.dataset.data_dir}/, outputs/ "
            f"and {cache_root(config.cache_dir)}",
            "",
            "Start it                       python -m stkd_lightning.train dataset=cifar100",
            "See that it runs, in seconds   python -m stkd_lightning.train experiment=smoke",
            "A first result, in a minute    python -m stkd_lightning.train experiment=quickstart",
            "Choices and options            python -m stkd_lightning.train --help",
        ]
    )


def _location(config: DictConfig) -> str:
    folder = Path(config.dataset.data_dir) / "cifar-100-python"
    return f"in {folder}" if folder.is_dir() else f"downloaded to {config.dataset.data_dir}/ ({DOWNLOAD_GB} GB)"


def _duration(seconds: float | None) -> str:
    """Return a rough duration, such as ``about 3 hours``."""
    if seconds is None:
        return "unknown"
    for name, unit in (("days", timedelta(days=1)), ("hours", timedelta(hours=1))):
        if seconds > 1.5 * unit.total_seconds():
            return f"about {seconds / unit.total_seconds():.0f} {name}"
    return f"about {max(1, round(seconds / 60))} minutes"


def _device_name(device: str) -> str:
    threads = torch.get_num_threads()
    cpu = f"CPU ({threads} thread{'s' if threads > 1 else ''})"
    return {"cpu": cpu, "cuda": "GPU"}.get(device, device)
