"""The size and the work of a network."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stkd_lightning.utilities.image_size import Size, sides


def parameters(network: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in network.parameters())


def flops(network: nn.Module, image_size: Size) -> int:
    """Return the floating-point operations for one image: two for each multiply-add of convolutions and products.

    Args:
        network: images ``(1, 3, H, W)`` to logits; it does not change.
        image_size: side in pixels, or height and width.
    """
    network = copy.deepcopy(network).cpu().float().eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, 3, *sides(image_size)))
    return int(counter.get_total_flops())
