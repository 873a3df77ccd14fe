"""Checks of untrusted files: they must not choose which code runs."""

from pathlib import Path
from typing import Any

from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.image_size import sides

LARGEST_IMAGE = 1024  # pixels of a side; larger images take gigabytes in a network
# The networks that contain other networks or a front end.
REUSING = ("stkd_lightning.models.reuse_classifier", "stkd_lightning.models.spirit_student")
HEARING = ("stkd_lightning.models.cnn", "stkd_lightning.models.crnn")
SEEN = tuple(
    f"stkd_lightning.data.{name}DataModule"
    for name in ("CIFAR10", "CIFAR100", "CINIC10", "TinyImageNet", "ImageNet", "ImageFolder", "Digits")
)
PARTS = dict.fromkeys(REUSING, ("student", "teacher")) | dict.fromkeys(HEARING, ("front_end",))
HUGGING_FACE = "stkd_lightning.models.huggingface_model"
AUGMENT = "stkd_lightning.data.Augment"  # the only class in a data set's node
TRUSTED = (
    "stkd_lightning.models.create_model",
    "stkd_lightning.models.DilatedResNet",
    "stkd_lightning.models.cnn",
    "stkd_lightning.models.crnn",
    "stkd_lightning.models.LogMel",
    *REUSING,
    HUGGING_FACE,
    "stkd_lightning.models.smp_model",
    "stkd_lightning.models.timm_model",
    "stkd_lightning.models.torchvision_model",
    "stkd_lightning.models.torchvision_segmentation_model",
    *SEEN,
    AUGMENT,
    "stkd_lightning.data.CamVidDataModule",
    "stkd_lightning.data.CityscapesDataModule",
    "stkd_lightning.data.DigitCanvasDataModule",
    "stkd_lightning.data.ImageMaskFolderDataModule",
    "stkd_lightning.data.AudioFolderDataModule",
    "stkd_lightning.data.DigitsTaggingDataModule",
    "stkd_lightning.data.SONYCDataModule",
    "stkd_lightning.data.SyntheticSoundsDataModule",
)
WORDS = {"_target_", "name", "encoder", "resident", "weights", "weights_key", "data_dir", "cache_dir", "url", "md5",
         "train_folder", "val_folder", "test_folder", "sampler", "on_error", "class_weights", "class_names",
         "classes_file", "images_folder", "masks_folder", "sequences", "test_sequences", "proximity", "student_cut",
         "teacher_cut", "revision", "head", "kind", "pooling", "labels", "classes", "level", "storage",
         "policy", "unlabeled_dir"}  # fmt: skip
LISTS = {"image_size", "evaluation_resize", "crop_scale", "crop_ratio", "crop", "scale", "window", "class_weights",
         "class_names", "sequences", "test_sequences", "proximity"}  # fmt: skip


def check_image_size(facts: StudentFacts, path: Path) -> None:
    """Refuse a student that asks for very large images, which would fill the memory.

    Args:
        facts: of the student.
        path: of its file.

    Raises:
        InputError: names the size.
    """
    if facts.sample_rate is None and max(sides(facts.image_size)) > LARGEST_IMAGE:
        side = max(sides(facts.image_size))
        raise InputError(
            f"{path}: asks for images of {side} pixels a side, above {LARGEST_IMAGE}; trust=true allows it"
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
        if part["_target_"] == HUGGING_FACE and (part.get("pretrained") or not _is_architecture(part.get("config"))):
            raise InputError(f"checkpoint {path}: its network is not on file but on a hub; trust=true allows it")
        for option, value in part.items():
            if option == "config" and part["_target_"] == HUGGING_FACE:
                continue
            if part["_target_"] == HUGGING_FACE and isinstance(option, str) and _fetches(option) and value:
                raise InputError(f"checkpoint {path}: its option {option} names a hub; trust=true allows it")
            if not isinstance(option, str) or (option.startswith("_") and option != "_target_"):
                raise InputError(f"checkpoint {path}: its option {option!r} is not plain; trust=true allows it")
            augments = option == "augment" and isinstance(value, dict) and value.get("_target_") == AUGMENT
            if augments or (isinstance(value, dict) and option in PARTS.get(part["_target_"], ())):
                nodes.append(value)
                continue
            # A colon in a name of timm, also of an encoder, names a network on a hub.
            fetched = option in ("name", "encoder") and ":" in str(value)
            values = value if isinstance(value, list) and option in LISTS else [value]
            if fetched or not all(_is_plain(option, v) for v in values):
                raise InputError(f"checkpoint {path}: its option {option}={value!r} is not plain; trust=true allows it")


def _is_architecture(config: Any) -> bool:
    """Return whether a configuration of Hugging Face has plain values only, and names nothing to fetch."""
    if not isinstance(config, dict) or "model_type" not in config:
        return False
    nodes: list[Any] = [config]
    for node in nodes:  # it grows
        if isinstance(node, dict):
            if any(not isinstance(k, str) or k.startswith("_") or (_fetches(k) and v) for k, v in node.items()):
                return False
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
        elif isinstance(node, str) and any(sign in node for sign in (":", "/", "${")):
            return False
    return True


def _fetches(option: str) -> bool:
    """Return whether an option of a configuration names code or weights that a library would fetch."""
    return option in ("auto_map", "name_or_path", "model_args") or "pretrained" in option


def _is_plain(option: str, value: Any) -> bool:
    """Return whether a value is a number, or a word for an option that takes words."""
    word = option in WORDS and isinstance(value, str) and "${" not in value
    return word or isinstance(value, int | float | None)
