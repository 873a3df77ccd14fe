"""Weighted sum of several losses."""

from collections.abc import Mapping

from torch import nn

from stkd_lightning.losses.base import Features, Loss, Terms, reads_logits
from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError, unknown


def _paths(losses: list[nn.Module], network: str) -> tuple[str, ...]:
    """Collect the paths that the losses read in one network, each path once, in the order of the losses."""
    return tuple(dict.fromkeys(p for loss in losses for p in getattr(getattr(loss, "features", None), network, ())))


class WeightedSum(Loss):
    """Sum of several losses: each term is multiplied by the weight of its loss.

    Args:
        losses: losses by name; a loss with weight 0 is still computed.
        weights: factors >= 0 by name; 1 for losses without one.

    Raises:
        InputError: there is no loss, or a weight is negative or names an unknown loss.

    Example:
        >>> import torch
        >>> from stkd_lightning import MixedTarget, ModelOutput
        >>> from stkd_lightning.losses import CrossEntropyLoss, DKDLoss, WeightedSum
        >>> loss = WeightedSum({"ce": CrossEntropyLoss(), "dkd": DKDLoss()}, weights={"dkd": 0.5})
        >>> loss(ModelOutput(torch.eye(3)), ModelOutput(5 * torch.eye(3)), MixedTarget.unmixed(torch.arange(3)))
        {'cross_entropy': tensor(0.5514), 'dkd': tensor(0.9744)}
    """

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        if not losses:
            raise InputError("loss.losses: a weighted sum needs at least one loss")
        weights = weights or {}
        for name in weights:
            if name not in losses:
                raise unknown("loss.weights", name, losses)
        self.losses = nn.ModuleDict(dict(losses))
        self.weights = {n: validation.non_negative(f"loss.weights.{n}", weights.get(n, 1.0)) for n in losses}
        parts = list(self.losses.values())
        self.needs_teacher = any(getattr(loss, "needs_teacher", True) for loss in parts)
        self.reads_logits = any(reads_logits(loss) for loss in parts)
        self.mixable = all(getattr(loss, "mixable", True) for loss in parts)
        self.needs_labels = any(getattr(loss, "needs_labels", True) for loss in parts)
        self.traceable = all(getattr(loss, "traceable", False) for loss in parts)
        self.smallest_batch = max(getattr(loss, "smallest_batch", 1) for loss in parts)
        self.smallest_classes = max(getattr(loss, "smallest_classes", 1) for loss in parts)
        self.features = Features(_paths(parts, "student"), _paths(parts, "teacher"))
        self.reads_features = any(
            getattr(loss, "reads_features", False) or getattr(loss, "features", Features()) != Features()
            for loss in parts
        )

    def prepare(self, student: NetworkInspector, teacher: NetworkInspector) -> None:
        """Fit each loss to the networks."""
        parts = list(self.losses.values())
        for loss in parts:
            if isinstance(loss, Loss):
                loss.prepare(student, teacher)
        self.features = Features(_paths(parts, "student"), _paths(parts, "teacher"))

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return the weighted terms of every loss.

        Raises:
            InputError: two losses return a term of the same name.
        """
        total: Terms = {}
        for name, loss in self.losses.items():
            for term, value in loss(student, teacher, target, context).items():
                if term in total:
                    raise InputError(f"loss {name!r} returns the term {term!r}, which another loss returns too")
                total[term] = self.weights[name] * value
        return total
