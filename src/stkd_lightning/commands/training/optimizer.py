"""Optimizers from a configuration, fused where they can be."""

from collections.abc import Iterable

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from stkd_lightning.distillation.optimizers import OptimizerFactory, can_fuse


def optimizer_factory(node: DictConfig) -> OptimizerFactory:
    """Return the factory of a node; ``fused: true`` holds where class, other options and parameters allow it.

    Args:
        node: with ``_target_`` and ``_partial_``.
    """
    fused: OptimizerFactory = instantiate(node)
    if not node.get("fused"):
        return fused
    single: OptimizerFactory = instantiate({key: value for key, value in node.items() if key != "fused"})

    def build(parameters: Iterable[nn.Parameter]) -> Optimizer:
        parameters = list(parameters)
        if not can_fuse(parameters):
            return single(parameters)
        try:
            return fused(parameters)
        except (TypeError, RuntimeError):  # this class has no such option, or another option excludes it
            return single(parameters)

    return build
