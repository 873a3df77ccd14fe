"""Classifiers of timm as teachers and students; only ``pretrained`` downloads weights."""

from difflib import get_close_matches
from typing import Any

from torch import nn

from stkd_lightning.models.input_adapter import InputSpec, declare
from stkd_lightning.utilities.errors import InputError


def timm_model(
    name: str, num_classes: int, pretrained: bool = False, input_size: int | None = None, **options: Any
) -> nn.Module:
    """Build a classifier of timm.

    Args:
        name: as in ``timm.list_models()``.
        num_classes: number of logits.
        pretrained: start from timm's weights, with the normalization and image size they were trained with.
        input_size: side in pixels that images are resized to; ``None``: the size of pretrained weights or of a
            network with a fixed input size, else that of the data.
        options: further arguments of ``timm.create_model``.

    Raises:
        InputError: timm is not installed, or has no network of this name.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise InputError("timm is not installed: pip install 'stkd-lightning[timm]'") from error
    if ":" not in name and not timm.is_model(name):  # "hf-hub:..." names a network outside timm's list
        near = get_close_matches(name, timm.list_models(), n=5)
        raise InputError(f"timm network {name!r}: unknown; the nearest: {', '.join(near) or 'see timm.list_models()'}")
    network = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **options)
    info: dict[str, Any] = vars(network)["pretrained_cfg"]
    fixed = info.get("fixed_input_size", False) and "img_size" not in options
    size = info["input_size"][-1] if pretrained or fixed else options.get("img_size")
    spec = InputSpec(size, info["mean"], info["std"]) if pretrained else InputSpec(size)
    return declare(network, spec.overridden(size=input_size))
