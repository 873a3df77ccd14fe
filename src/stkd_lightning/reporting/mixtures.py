"""Predictions of a teacher for mixtures of two samples, compared with the mixed label."""

import torch
from torch import Tensor


def teacher_on_mixtures(logits: Tensor, classes: Tensor, weight: float) -> dict[str, Tensor]:
    """Compare a teacher's predictions for P mixtures with the mixed labels.

    Args:
        logits: of the teacher ``(P, K)``.
        classes: labels of the first and the second sample ``(P, 2)``.
        weight: of the first sample, in [0.5, 1].

    Returns:
        ``entropy``: of the prediction in nats ``(P,)``. ``top1``: 1 where the first class is the label of the larger
        weight, at the weight 0.5 either label, else 0 ``(P,)``. ``contradiction``: 1 where the label of the larger
        weight is less probable than the other one, else 0, for the pairs of different labels alone; left out at 0.5,
        where the mixed label has no order.
    """
    first, (larger, smaller) = logits.argmax(1), classes.unbind(1)
    right = first == larger if weight > 0.5 else (first == larger) | (first == smaller)
    values = {"entropy": torch.special.entr(logits.softmax(1)).sum(1), "top1": right.float()}
    if weight > 0.5:
        # The order of the logits is that of the probabilities, which may be rounded to equal ones.
        of_larger, of_smaller = logits.gather(1, classes)[larger != smaller].unbind(1)
        values["contradiction"] = (of_larger < of_smaller).float()
    return values
