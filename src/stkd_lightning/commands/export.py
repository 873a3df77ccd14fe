"""Writing a student as a file for use elsewhere, tried before it is kept."""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from stkd_lightning.commands.local_data import data_here
from stkd_lightning.commands.training.fit import quiet
from stkd_lightning.data.loader import Normalize
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.export_folder import CARD, check_replaceable, is_export, write_facts
from stkd_lightning.inference.formats.base import Format, need
from stkd_lightning.inference.hub import check_hub, push
from stkd_lightning.inference.load import checkpoint_file, load_student
from stkd_lightning.inference.model_card import card
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.verify import largest_difference
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.files import atomic_folder, write_text

IMAGES = 64  # on which the file is tried at once


def export(config: DictConfig) -> None:
    """Run a composed ``export.yaml``.

    Args:
        config: resolved by Hydra.

    Raises:
        InputError: a checkpoint, output folder or repository that will not do; a package that is not installed.
        RunError: the file does not compute what the checkpoint does, or the hub cannot be reached.
    """
    quiet()
    output, path = Path(config.output), Path(config.checkpoint)
    one: Format = instantiate(config.format)
    need(one.name, one.packages)
    check_replaceable(output)
    if config.push_to_hub is not None:
        check_hub(config.push_to_hub)
    student = load_student(path, trust=config.trust)
    images, seen, count = _images(student, config)
    _add_figures(student, count)
    with atomic_folder(output) as folder:
        _write(one, student, folder / one.file)
        difference = largest_difference(student, one, folder / one.file, images)
        comparison = {"images": seen, "batches": [1, len(images)], "largest_difference": difference}
        write_text(folder / CARD, card(student.facts, one, comparison, config.push_to_hub))
        write_facts(folder, one, student.facts, comparison)
    size = (output / one.file).stat().st_size / 2**20
    print_rank_zero(f"{output}: {one.file} ({size:.1f} MiB), student.json, {CARD}")
    print_rank_zero(f"compared with the checkpoint on {seen}: logits differ by {difference:.1e} at most")
    if config.push_to_hub is not None:
        print_rank_zero(f"uploaded to {push(output, config.push_to_hub, private=config.private)}")


def _write(one: Format, student: Student, path: Path) -> None:
    """Have the format write its file.

    Raises:
        InputError: it cannot express the network.
    """
    try:
        one.write(student, path)
    except OSError:
        raise
    except Exception as error:  # of torch's exporters, for a network that they cannot follow
        name = student.about.get("name", "this network")
        raise InputError(
            f"format={one.name}: cannot express {name} ({reason(error)}); format=safetensors takes any network"
        ) from error


def _add_figures(student: Student, count: int | None) -> None:
    """Have the facts say what the network costs, and on how many images it was measured."""
    try:
        cost = {"parameters": parameters(student.network), "flops": flops(student.network, student.image_size)}
    except Exception:  # a program that was exported before tells neither
        cost = {}
    known = student.about.get("student") or {}
    student.about["student"] = {**cost, **known}
    if count is not None:
        student.about["test_images"] = count


def _images(student: Student, config: DictConfig) -> tuple[Tensor, str, int | None]:
    """Return normalized images to try a file on, what they are, and the number of test images, if that is known."""
    try:
        data = _data(config)
        pixels = data.arrays.splits["test"].images
        if pixels.shape[1:] != (3, student.image_size, student.image_size):
            raise InputError(f"{data.name} has images of another size now")
        images = Normalize(student.mean, student.std)(pixels[:IMAGES])
        same = data.arrays.digest == (student.about.get("data") or {}).get("digest")
        return images, f"{len(images)} test images of {data.name}", len(pixels) if same else None
    except (InputError, OSError) as error:
        print_rank_zero(f"the data are not used ({reason(error)}); random images stand for them")
        generator = torch.Generator().manual_seed(0)
        side = student.image_size
        return torch.randn(IMAGES, 3, side, side, generator=generator), f"{IMAGES} random images", None


def _data(config: DictConfig) -> ArrayDataModule:
    """Return the data of a checkpoint's run, which are not downloaded.

    Raises:
        InputError: they are not there, or the checkpoint does not say.
    """
    path = Path(config.checkpoint)
    if is_export(path):
        raise InputError("an export does not say where they are")
    checkpoint = checkpoint_file(path)
    dataset: dict[str, Any] = StudentProvenance.from_checkpoint(checkpoint).config["dataset"]
    return data_here(dataset, checkpoint, trust=config.trust, cache_dir=config.cache_dir, data_dir=config.data_dir)
