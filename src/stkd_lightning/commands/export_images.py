"""The images on which an exported file is compared with its checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from stkd_lightning.commands.local_data import load_local_data
from stkd_lightning.data.arrays import MaskedSplit, Split
from stkd_lightning.data.batches import Normalize
from stkd_lightning.data.clip_arrays import ClipSplit
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.data.picture_split import FileSplit, PictureSplit
from stkd_lightning.inference.export_folder import is_export
from stkd_lightning.inference.load import checkpoint_file
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.inference.student import Student
from stkd_lightning.tasks.clips import split_clips
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.image_size import shape_of, sides

IMAGES, MASKED = 64, 2  # images on which the file is compared with the checkpoint; those of a segmentation student


@dataclass(frozen=True)
class ExportImages:
    """Inputs for the comparison.

    Attributes:
        inputs: normalized ``(B, ...)``.
        description: of the inputs in words.
        data: of the run; ``None``: they are not on this machine, and the inputs are random.
    """

    inputs: Tensor
    description: str
    data: ArrayDataModule | None = None


def export_images(student: Student, path: Path, config: DictConfig, *, required_by: str | None) -> ExportImages:
    """Return test images of a student's run; random ones, of which it tells, if the data cannot be used.

    Args:
        student: the exported student.
        path: of its run, checkpoint or export.
        config: of the command.
        required_by: name of a format that cannot do without the data; ``None``: random images will do.

    Raises:
        InputError: the format needs the data, and they cannot be used.
    """
    number = MASKED if student.facts.task.dense else IMAGES
    shape = shape_of(len(student.mean), student.facts.image_size)
    kind = "images" if len(shape) > 1 else "clips"
    try:
        data = _data(path, config)
        inputs = _first_inputs(student, data, number, shape[-1])
        return ExportImages(inputs, f"{len(inputs)} test {kind} of {data.name}", data)
    except (InputError, OSError) as error:
        if required_by is not None:
            hint = "name the run or its checkpoint" if is_export(path) else "data_dir=FOLDER names their folder"
            text = f"format={required_by}: needs the run's training {kind}; {hint} ({reason(error)})"
            raise InputError(text) from error
        print_rank_zero(f"the data cannot be used ({reason(error)}); the comparison uses random {kind}")
        generator = torch.Generator().manual_seed(0)
        return ExportImages(torch.randn(number, *shape, generator=generator), f"{number} random {kind}")


def _first_inputs(student: Student, data: ArrayDataModule, number: int, length: int) -> Tensor:
    """Return the first test images, normalized, or parts of the first test clips.

    Raises:
        InputError: the images have another size than those of the training.
    """
    split = data.arrays.splits["test"]
    if isinstance(split, ClipSplit):
        indices = torch.arange(min(number, split.samples))
        return split_clips(data.normalize(split.cut(indices, length)))[0]
    pixels = _first_images(split, number)
    if not student.facts.task.dense and pixels.shape[2:] != sides(student.facts.image_size):
        raise InputError(f"the images of {data.name} have another size now")
    return Normalize(student.mean, student.std)(pixels)


def _first_images(split: Split | MaskedSplit | PictureSplit | FileSplit, count: int) -> Tensor:
    """Return the first images of a split ``(B, 3, H, W)`` uint8; of unequal ones those with the sides of the first."""
    if not isinstance(split, MaskedSplit):
        return split.pictures(torch.arange(min(count, split.samples)))
    equal = (split.sizes == split.sizes[0]).all(1).nonzero()[:count, 0]
    return torch.stack([split.image(i) for i in equal.tolist()])


def _data(path: Path, config: DictConfig) -> ArrayDataModule:
    """Return the data of a checkpoint's run, without a download.

    Raises:
        InputError: the data are not on this machine, or the file does not name them.
    """
    if is_export(path):
        raise InputError("an export does not contain the location of its data")
    checkpoint = checkpoint_file(path)
    dataset: dict[str, Any] = StudentProvenance.from_checkpoint(checkpoint).config["dataset"]
    return load_local_data(
        dataset, checkpoint, trust=config.trust, cache_dir=config.cache_dir, data_dir=config.data_dir
    )
