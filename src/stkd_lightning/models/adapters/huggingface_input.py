"""The input that an image processor of Hugging Face transformers prepares."""

from typing import Any

from stkd_lightning.models.input_adapter import InputSpec
from stkd_lightning.utilities.console import warn
from stkd_lightning.utilities.image_size import Size

BICUBIC = 3  # Pillow's number
BYTE = 255


def input_of(name: str, **options: Any) -> InputSpec:
    """Return the input of a network from its image processor: size, mean, std and interpolation.

    The data's images are resized to the size as a whole; a processor that resizes to a larger size and crops shows a
    network the centre.

    Args:
        name: of the network, or its folder.
        options: ``revision``, on the hub.
    """
    from transformers import AutoImageProcessor

    try:
        processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False, **options)
    except OSError:  # the network itself was read
        warn(f"huggingface network {name!r}: has no image processor; its images keep the data's mean and std")
        return InputSpec()
    mean, std = (0.0,) * 3, (1.0,) * 3
    if getattr(processor, "do_normalize", True):
        mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    scale = BYTE * processor.rescale_factor if getattr(processor, "do_rescale", True) else BYTE
    interpolation = "bicubic" if getattr(processor, "resample", None) == BICUBIC else None
    return InputSpec(_size(processor), tuple(m / scale for m in mean), tuple(s / scale for s in std), interpolation)


def _size(processor: Any) -> Size | None:
    """Return the size that an image has behind a processor."""
    crops = getattr(processor, "do_center_crop", False) and getattr(processor, "crop_size", None)
    if not crops and not getattr(processor, "do_resize", True):
        return None
    size = processor.crop_size if crops else processor.size
    side = size.get("shortest_edge")
    height, width = (side, side) if side else (size.get("height"), size.get("width"))
    return height if height == width else (height, width)
