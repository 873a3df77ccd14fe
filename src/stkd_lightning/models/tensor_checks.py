"""Which loaded tensors are weights that a network can hold."""

import torch
from torch import Tensor, nn

from stkd_lightning.utilities.errors import InputError


def is_plain(value: Tensor) -> bool:
    """Return whether a tensor holds its values one by one in memory."""
    own_class = type(value) in (Tensor, nn.Parameter)
    return own_class and value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized


def kind_of(value: Tensor) -> str:
    """Return in words what a tensor is that is not plain."""
    if value.is_quantized or value.layout == torch.strided:
        return f"a {type(value).__name__} of {value.dtype} on {value.device}"
    return str(value.layout)


def converted(name: str, value: Tensor, own: Tensor) -> Tensor:
    """Return loaded values in the type of those that they replace.

    Raises:
        InputError: numbers of another kind or beyond that type.
    """
    if own.is_floating_point() and not value.is_floating_point():
        raise InputError(f"{name} holds {value.dtype} where {own.dtype} is wanted")
    if value.is_complex() and not own.is_complex():
        raise InputError(f"{name} holds complex numbers where {own.dtype} is wanted")
    try:
        result = value.to(own.dtype)
        finite = (result if own.is_floating_point() else value).isfinite().all() or not own.isfinite().all()
    except RuntimeError as error:  # a type that torch does not compute with
        raise InputError(f"{name} holds {value.dtype}, which cannot be read as {own.dtype}") from error
    if not finite:
        raise InputError(f"{name} holds values that are not finite; the network that was saved is of no use")
    return result
