"""Check that a loss and a way to mix are defined on unlabelled samples."""

from collections.abc import Iterator

from torch import nn

from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.losses.weighted_sum import WeightedSum
from stkd_lightning.utilities.errors import UndefinedError


def check_unlabelled(loss: nn.Module, mixup: Mixing | None) -> None:
    """Refuse unlabelled samples for a loss or a way to mix that needs the label of each.

    Args:
        loss: of the run; a module that does not say ``needs_labels`` needs them.
        mixup: the way to mix.

    Raises:
        UndefinedError: names the loss or the option.
    """
    needing = next((part for part in _parts(loss) if getattr(part, "needs_labels", True)), None)
    if needing is not None:
        raise UndefinedError(
            f"dataset.unlabeled_ratio: {type(needing).__name__} reads the label of each image, which unlabelled ones "
            "have not; loss=kd, stkd or sp can use them"
        )
    if not getattr(loss, "needs_teacher", True):
        raise UndefinedError("dataset.unlabeled_ratio: a loss without a teacher learns nothing from unlabelled images")
    if mixup is not None and mixup.partner == "other_class":
        raise UndefinedError("mixup.partner=other_class: unlabelled images have no class; set mixup.partner=any")


def _parts(loss: nn.Module) -> Iterator[nn.Module]:
    """Yield the losses that a loss is a sum of."""
    if not isinstance(loss, WeightedSum):
        yield loss
        return
    for part in loss.losses.values():
        yield from _parts(part)
