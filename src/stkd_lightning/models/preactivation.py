"""Marks the map before the last activation of a block, so that losses can read it."""

from torch import nn


class Preactivation(nn.Identity):
    """Returns its input ``(B, C, H, W)``, the map before an activation.

    The network computes the same function without this module, which has no parameters. The activation that follows
    must not work in place, because it would overwrite the map.
    """
