"""Distillation objectives: one method, one file, one paper."""

from stkd_lightning.losses.base import Loss, Terms
from stkd_lightning.losses.cross_entropy import CrossEntropyLoss, mixed_cross_entropy
from stkd_lightning.losses.kd import KDLoss, softened_kl
from stkd_lightning.losses.stkd import STKDLoss, similarity_transfer
from stkd_lightning.losses.weighted_sum import WeightedSum

__all__ = [
    "CrossEntropyLoss",
    "KDLoss",
    "Loss",
    "STKDLoss",
    "Terms",
    "WeightedSum",
    "mixed_cross_entropy",
    "similarity_transfer",
    "softened_kl",
]
