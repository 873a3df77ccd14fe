"""Export a student as a file for other programs, and compare it with the checkpoint before it is kept."""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from stkd_lightning.commands.chosen_run import student_path
from stkd_lightning.commands.config.command_checks import check_output, default_output
from stkd_lightning.commands.local_data import load_local_data
from stkd_lightning.commands.training.fit import quiet
from stkd_lightning.data.arrays import MaskedSplit, Split
from stkd_lightning.data.batches import Normalize
from stkd_lightning.data.clip_arrays import ClipSplit
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.data.picture_split import FileSplit, PictureSplit
from stkd_lightning.inference.export_folder import CARD, check_replaceable, is_export, write_facts
from stkd_lightning.inference.formats.base import Format, need
from stkd_lightning.inference.front_end import front_end_of, without_front_end
from stkd_lightning.inference.hub import check_hub, push
from stkd_lightning.inference.load import checkpoint_file, load_student
from stkd_lightning.inference.model_card import card
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.verify import largest_difference
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.tasks.clips import split_clips
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.files import atomic_folder, write_text
from stkd_lightning.utilities.image_size import shape_of, sides

IMAGES, MASKED = 64, 2  # images on which the file is compared with the checkpoint; those of a segmentation student


def export(config: DictConfig) -> None:
    """Run a composed ``export.yaml``.

    Args:
        config: the checked configuration.

    Raises:
        InputError: the checkpoint, output folder or repository is not valid, or a package is not installed.
        RunError: the logits of the file differ from the checkpoint's, or the hub cannot be reached.
    """
    quiet()
    path = student_path(Path(config.checkpoint))
    output = Path(config.output) if config.output is not None else default_output(path)
    check_output(output)
    export_format: Format = instantiate(config.format)
    if config.front_end == "outside" and not export_format.usage:
        raise InputError(
            f"front_end=outside: format={export_format.name} holds weights, of which this project builds the whole "
            "student; set front_end=inside"
        )
    need(export_format.name, export_format.packages)
    check_replaceable(output)
    if config.push_to_hub is not None:
        check_hub(config.push_to_hub)
    student = load_student(path, trust=config.trust)
    images, description, count = _images(student, path, config)
    _add_facts(student, count)
    exported = student
    if config.front_end == "outside":
        exported = without_front_end(student)
        images = front_end_of(student.facts)(images)
    with atomic_folder(output) as folder:
        file = folder / export_format.file
        _write(export_format, exported, file)
        difference = largest_difference(exported, export_format, file, images)
        comparison = {"images": description, "batches": [1, len(images)], "largest_difference": difference}
        write_text(folder / CARD, card(exported.facts, export_format, comparison, config.push_to_hub))
        write_facts(folder, export_format, exported.facts, comparison)
    size = (output / export_format.file).stat().st_size / 2**20
    print_rank_zero(f"{output}: {export_format.file} ({size:.1f} MiB), student.json, {CARD}")
    print_rank_zero(f"compared with the checkpoint on {description}: logits differ by {difference:.1e} at most")
    if config.push_to_hub is not None:
        print_rank_zero(f"uploaded to {push(output, config.push_to_hub, private=config.private)}")


def _write(export_format: Format, student: Student, path: Path) -> None:
    """Write the file of a format.

    Raises:
        InputError: the format cannot express the network.
    """
    try:
        export_format.write(student, path)
    except OSError:
        raise
    except Exception as error:  # torch's exporters can raise anything for a network that they do not support
        name = student.about.get("name", "this network")
        raise InputError(
            f"format={export_format.name}: cannot express {name} ({reason(error)}); format=safetensors can"
        ) from error


def _add_facts(student: Student, count: int | None) -> None:
    """Add the cost of the network and the number of test images to the student's facts."""
    try:
        cost = {
            "parameters": parameters(student.network),
            "flops": flops(student.network, student.facts.image_size, len(student.facts.mean)),
        }
    except Exception:  # neither can be counted in an exported program
        cost = {}
    student.about["student"] = {**cost, **(student.about.get("student") or {})}
    if count is not None:
        student.about["test_images"] = count


def _images(student: Student, path: Path, config: DictConfig) -> tuple[Tensor, str, int | None]:
    """Return normalized images for the comparison, their description, and the number of test images if it is known."""
    number = MASKED if student.facts.task.dense else IMAGES
    shape = shape_of(len(student.mean), student.facts.image_size)
    try:
        data = _data(path, config)
        split = data.arrays.splits["test"]
        same = data.arrays.digest == (student.about.get("data") or {}).get("digest")
        count = data.image_counts["test"] if same else None
        if isinstance(split, ClipSplit):
            indices = torch.arange(min(number, split.samples))
            clips = split_clips(data.normalize(split.cut(indices, shape[-1])))[0]
            return clips, f"{len(clips)} test clips of {data.name}", count
        pixels = _first_images(split, number)
        if not student.facts.task.dense and pixels.shape[2:] != sides(student.facts.image_size):
            raise InputError(f"the images of {data.name} have another size now")
        images = Normalize(student.mean, student.std)(pixels)
        return images, f"{len(images)} test images of {data.name}", count
    except (InputError, OSError) as error:
        kind = "images" if len(shape) > 1 else "clips"
        print_rank_zero(f"the data cannot be used ({reason(error)}); the comparison uses random {kind}")
        generator = torch.Generator().manual_seed(0)
        return torch.randn(number, *shape, generator=generator), f"{number} random {kind}", None


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
