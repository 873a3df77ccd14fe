"""Checks of untrusted files: they must not choose which code runs."""

from pathlib import Path
from typing import Any

from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.image_size import Size, sides

LARGEST_IMAGE = 1024  # pixels of a side; larger images take gigabytes in a network
# The networks that contain other networks.
REUSING = ("stkd_lightning.models.reuse_classifier", "stkd_lightning.models.spirit_student")
TRUSTED = (
    "stkd_lightning.models.create_model",
    "stkd_lightning.models.DilatedResNet",
    *REUSING,
    "stkd_lightning.models.smp_model",
    "stkd_lightning.models.timm_model",
    "stkd_lightning.models.torchvision_model",
    "stkd_lightning.models.torchvision_segmentation_model",
    "stkd_lightning.data.CIFAR10DataModule",
    "stkd_lightning.data.CIFAR100DataModule",
    "stkd_lightning.data.CINIC10DataModule",
    "stkd_lightning.data.TinyImageNetDataModule",
    "stkd_lightning.data.ImageFolderDataModule",
    "stkd_lightning.data.DigitsDataModule",
    "stkd_lightning.data.CamVidDataModule",
    "stkd_lightning.data.CityscapesDataModule",
    "stkd_lightning.data.DigitCanvasDataModule",
    "stkd_lightning.data.ImageMaskFolderDataModule",
)
WORDS = {"_target_", "name", "encoder", "resident", "weights", "weights_key", "data_dir", "cache_dir", "url", "md5",
         "train_folder", "val_folder", "test_folder", "sampler", "on_error", "class_weights", "class_names",
         "classes_file", "images_folder", "masks_folder", "sequences", "test_sequences", "proximity", "student_cut",
         "teacher_cut", "head"}  # fmt: skip
LISTS = {"crop", "scale", "window", "class_weights", "class_names", "sequences", "test_sequences", "proximity"}


def check_image_size(size: Size, path: Path) -> None:
    """Refuse a student that asks for very large images, which would fill the memory.

    Args:
        size: side in pixels, or height and width.
        path: of the file of the student.

    Raises:
        InputError: names the size.
    """
    if max(sides(size)) > LARGEST_IMAGE:
        raise InputError(
            f"{path}: asks for images of {max(sides(size))} pixels a side, above {LARGEST_IMAGE}; trust=true allows it"
        )


def check_trusted(parts: dict[str, Any], path: Path) -> None:
    """Refuse parts that could run code outside this project: other classes, references, and texts for libraries.

    Args:
        parts: nodes with ``_target_``, as plain containers.
        path: of the file with these nodes.

    Raises:
        InputError: names the class or the option.
    """
    nodes = list(parts.values())
    for part in nodes:
        if not isinstance(part, dict):
            raise InputError(f"checkpoint {path}: wants to build {str(part)[:50]!r}, which names no class")
        if part.get("_target_") not in TRUSTED:
            raise InputError(
                f"checkpoint {path}: wants to build {part.get('_target_')}, which is not part of this project; "
                "trust=true allows it"
            )
        for option, value in part.items():
            if not isinstance(option, str) or (option.startswith("_") and option != "_target_"):
                raise InputError(f"checkpoint {path}: its option {option!r} is not plain; trust=true allows it")
            if isinstance(value, dict) and part["_target_"] in REUSING and option in ("student", "teacher"):
                nodes.append(value)
                continue
            # A colon in a name of timm, also of an encoder, names a network on a hub.
            fetched = option in ("name", "encoder") and ":" in str(value)
            values = value if isinstance(value, list) and option in LISTS else [value]
            if fetched or not all(_is_plain(option, v) for v in values):
                raise InputError(f"checkpoint {path}: its option {option}={value!r} is not plain; trust=true allows it")


def _is_plain(option: str, value: Any) -> bool:
    """Return whether a value is a number, or a word for an option that takes words."""
    word = option in WORDS and isinstance(value, str) and "${" not in value
    return word or isinstance(value, int | float | None)
