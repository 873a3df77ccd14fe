"""Checks of loaded tensors before they become weights of a network."""

import torch
from torch import Tensor, nn

from stkd_lightning.utilities.errors import InputError


def is_plain(value: Tensor) -> bool:
    """Return whether a tensor is a dense, unquantized tensor on the CPU."""
    plain_type = type(value) in (Tensor, nn.Parameter)
    return plain_type and value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized


def kind_of(value: Tensor) -> str:
    """Describe a tensor that is not plain."""
    if value.is_quantized or value.layout == torch.strided:
        return f"a {type(value).__name__} of {value.dtype} on {value.device}"
    return str(value.layout)


def converted(name: str, value: Tensor, current: Tensor) -> Tensor:
    """Convert loaded values to the dtype of the weights that they replace.

    Raises:
        InputError: numbers of another kind, or too large for this dtype.
    """
    if current.is_floating_point() and not value.is_floating_point():
        raise InputError(f"{name} holds {value.dtype} where {current.dtype} is needed")
    if value.is_complex() and not current.is_complex():
        raise InputError(f"{name} holds complex numbers where {current.dtype} is needed")
    try:
        result = value.to(current.dtype)
        finite = (result if current.is_floating_point() else value).isfinite().all() or not current.isfinite().all()
    except RuntimeError as error:  # a dtype without arithmetic in torch
        raise InputError(f"{name} holds {value.dtype}, which cannot be read as {current.dtype}") from error
    if not finite:
        raise InputError(f"{name} holds values that are not finite; use another checkpoint")
    return result
