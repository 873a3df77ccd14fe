"""Initial weights of the built-in networks."""

from torch import nn


def initialize(network: nn.Module) -> None:
    """Set convolutions to He-normal over the fan-out (He et al. 2015, arXiv:1502.01852), BatchNorm to identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
