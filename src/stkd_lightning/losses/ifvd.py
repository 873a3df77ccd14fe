"""Intra-class feature variation distillation (IFVD): Wang et al. 2020 (ECCV 2020)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.dense_loss import SamePositionsLoss, check_positions
from stkd_lightning.losses.functional import unit
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities.errors import InputError


@full_precision
def intra_class_variation(student: Tensor, teacher: Tensor, labels: Tensor, *, num_classes: int) -> Tensor:
    """Mean over pixels and batch of ``(v_t - v_s)**2``, v a pixel's cosine with the centre of its class.

    The centre of a class is the mean of the features of its pixels within an image. A pixel without class is its own
    centre: its cosine is 1 in both networks.

    Args:
        student: feature map ``(B, C_s, H, W)``; carries the gradient, also through the centres.
        teacher: feature map ``(B, C_t, H, W)``; treated as a constant.
        labels: ``(B, H', W')``, resized to the features by the nearest; others than 0 to K - 1 are without class.
        num_classes: K >= 1.

    Returns:
        Scalar in [0, 4], dimensionless.

    Raises:
        ValueError: the tensors are not feature maps of the same batch and resolution.
    """
    check_positions(student, teacher)
    nearest = F.interpolate(labels[:, None].to(student.dtype), student.shape[2:], mode="nearest").flatten(1)
    classes = torch.arange(num_classes, device=labels.device, dtype=student.dtype)
    members = (nearest[:, :, None] == classes).to(student.dtype)  # (B, H W, K)
    difference = _variation(teacher.detach(), members) - _variation(student, members)
    return (difference * members.sum(2)).square().mean()


def _variation(features: Tensor, members: Tensor) -> Tensor:
    """Return the cosine of each pixel with the centre of its class, ``(B, H W)``."""
    pixels = features.flatten(2).transpose(1, 2)
    # The sum of a class's features has the direction of their mean.
    centres = unit(members.transpose(1, 2) @ pixels)
    return (unit(pixels) * (members @ centres)).sum(2)


class IFVDLoss(SamePositionsLoss):
    """``intra_class_variation`` of the feature map that the classifier reads; term ``ifvd``.

    The public re-implementation (winycg/CIRKD) adds it with weight 20 to cross-entropy, the divergence of the scores
    and an adversary; this project does not have the latter. The loss needs a label for each pixel of unmixed images.

    Args:
        student_layers: module path; see ``FeatureLoss``.
        teacher_layers: module path.

    Raises:
        InputError: in ``prepare``, maps of different resolutions; in ``forward``, mixed images, or a single label for
            each.
    """

    mixable = False
    dense = True
    traceable = True

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"ifvd"}`` of feature maps ``(B, C, H, W)`` and labels of their pixels."""
        if target.labels.ndim != 4:
            raise InputError("IFVDLoss: needs a label for each pixel; this task has one for each sample")
        if target.labels.shape[1] != 1:
            raise InputError("IFVDLoss: not defined on mixed samples; train with mixup=none")
        ((student_map, teacher_map),) = self.pairs(student, teacher)
        labels, classes = target.labels[:, 0], student.logits.shape[1]
        return {"ifvd": intra_class_variation(student_map, teacher_map, labels, num_classes=classes)}
