"""The default optimizer, where an optimizer can be fused, and the clipping of its gradients."""

from collections.abc import Callable, Iterable

import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import nn
from torch.optim import Optimizer

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]

FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")  # devices on which torch has one kernel for all weights


def can_fuse(parameters: Iterable[nn.Parameter]) -> bool:
    """Return true if torch can update these parameters by one fused kernel."""
    return all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in parameters)


def cifar_sgd(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Return the CIFAR recipe's SGD: rate 0.05, momentum 0.9, weight decay 5e-4."""
    parameters = list(parameters)
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4, fused=can_fuse(parameters))


def clip_gradients(plugin: MixedPrecision, optimizer: Optimizer, value: float, algorithm: str | None) -> None:
    """Clip the gradients of an optimizer in mixed precision, also of a fused one, which Lightning refuses.

    Args:
        plugin: of the trainer.
        optimizer: a fused optimizer divides its gradients by the loss scale in its step, hence after the clipping.
        value: largest norm, or largest absolute value.
        algorithm: ``norm`` or ``value``; ``None``: ``norm``.
    """
    if plugin.scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        plugin.scaler.unscale_(optimizer)  # the step then divides no more
    Precision.clip_gradients(plugin, optimizer, value, GradClipAlgorithmType(algorithm or "norm"))
