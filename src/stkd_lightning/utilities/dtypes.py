"""Conversions of floating-point precision."""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half precision to float32; keep float32 and float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
