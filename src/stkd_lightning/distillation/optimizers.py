"""The default optimizer, where an optimizer can be fused, and the clipping of its gradients."""

from collections.abc import Callable, Iterable, Mapping

import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import nn
from torch.optim import Optimizer

from stkd_lightning.models.feature_hooks import inner_network

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]

FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")  # devices on which torch has one kernel for all weights


def can_fuse(parameters: Iterable[nn.Parameter]) -> bool:
    """Return true if torch can update these parameters by one fused kernel."""
    return all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in parameters)


def with_rate_factors(factory: OptimizerFactory, student: nn.Module, others: Iterable[nn.Parameter] = ()) -> Optimizer:
    """Return an optimizer of trainable parameters, with a group for each child that a student gives a rate of its own.

    Args:
        factory: maps parameters to an optimizer.
        student: may have ``rate_factors``: by the name of a child module the factor of its learning rate.
        others: of the loss; they have the factory's rate, as has the rest of the student.
    """
    network = inner_network(student)
    factors: Mapping[str, float] = getattr(network, "rate_factors", {})
    children = {name: list(network.get_submodule(name).parameters()) for name in factors}
    grouped = {parameter for group in children.values() for parameter in group}
    optimizer = factory([p for p in (*student.parameters(), *others) if p.requires_grad and p not in grouped])
    for name, group in children.items():
        rate = optimizer.param_groups[0]["lr"] * factors[name]
        optimizer.add_param_group({"params": [p for p in group if p.requires_grad], "lr": rate})
    return optimizer


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
