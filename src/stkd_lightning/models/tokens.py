"""Find the tokens of a transformer that are classified: the class token, or the mean of some."""

import torch
from torch import Tensor

from stkd_lightning.models.recording import Recording

# The class token, a second one for distillation, all tokens, and those of the patches behind one or two others.
CHOICES = (slice(0, 1), slice(1, 2), slice(None), slice(1, None), slice(2, None))


def classified_tokens(recording: Recording, count: int) -> slice | None:
    """Return the tokens whose mean a network makes its prediction from; ``None`` if they are not found.

    Args:
        recording: a run on noise, with kept tensors.
        count: tokens of a feature ``(B, tokens, d)``; those of another number are not looked at.
    """
    inputs = [call.inputs[0] for call in recording.calls if call.inputs and isinstance(call.inputs[0], Tensor)]
    vectors = [vector for vector in inputs if vector.ndim == 2 and len(vector) == 1]
    for call in reversed(recording.calls):
        if call.output is not None and call.output.ndim == 3 and call.output.shape[:2] == (1, count):
            for choice in CHOICES:
                pooled = mean_of(call.output, choice)
                if any(v.shape == pooled.shape and torch.allclose(v, pooled, rtol=1e-4, atol=1e-5) for v in vectors):
                    return choice
    return None


def mean_of(features: Tensor, tokens: slice | None) -> Tensor:
    """Return the mean ``(B, d)`` of some tokens of features ``(B, tokens, d)``; with ``None`` the features."""
    return features if tokens is None else features[:, tokens].mean(1)
