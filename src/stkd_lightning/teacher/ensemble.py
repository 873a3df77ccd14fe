"""Several trained networks as one: the weighted mean of their softened probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.logits import logits_of
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.dtypes import at_least_float32
from stkd_lightning.utilities.errors import InputError


def mean_logits(logits: Tensor, weights: Tensor, *, temperature: float, exclusive: bool = True) -> Tensor:
    """Return logits whose probabilities at a temperature T are the weighted mean of several networks' probabilities.

    They are ``T log(sum_m w_m softmax(z_m / T))``; with independent classes ``T logit(sum_m w_m sigmoid(z_m / T))``.

    Args:
        logits: ``(M, B, K, ...)`` of M networks.
        weights: ``(M,)``, above 0, with sum 1.
        temperature: T > 0; at another temperature the probabilities are not the mean.
        exclusive: one of K classes is right; false: each class for itself.

    Returns:
        ``(B, K, ...)`` in the precision of the logits; computed in float32 or better.
    """
    scaled = at_least_float32(logits) / temperature
    log_weights = weights.to(scaled.dtype).log().view(-1, *[1] * (logits.ndim - 1))
    if exclusive:
        return (temperature * (log_weights + scaled.log_softmax(2)).logsumexp(0)).to(logits.dtype)
    present, absent = ((log_weights + F.logsigmoid(sign * scaled)).logsumexp(0) for sign in (1, -1))
    return (temperature * (present - absent)).to(logits.dtype)


class Ensemble(nn.Module):
    """Networks of one task as one network without layers of its own; see ``mean_logits``.

    Args:
        networks: M networks, images ``(B, C, H, W)`` to logits of one shape.
        weights: of the networks, above 0, of any sum; ``None``: equal.
        temperature: of the loss that reads the logits, above 0.
        exclusive: one of the classes is right; false: each class for itself, as in tagging.

    Raises:
        InputError: no network, another number of weights, or a value outside its range.

    Example:
        >>> import torch
        >>> from stkd_lightning.models import create_model
        >>> from stkd_lightning.teacher import Ensemble, FrozenTeacher
        >>> networks = [create_model(name, num_classes=10) for name in ("resnet8", "resnet14")]
        >>> FrozenTeacher(Ensemble(networks, temperature=4.0))(torch.zeros(2, 3, 32, 32)).logits.shape
        torch.Size([2, 10])
    """

    weights: Tensor

    def __init__(
        self,
        networks: Sequence[nn.Module],
        weights: Sequence[float] | None = None,
        *,
        temperature: float,
        exclusive: bool = True,
    ) -> None:
        super().__init__()
        given = [1.0] * len(networks) if weights is None else list(weights)
        if not networks or len(given) != len(networks):
            raise InputError(f"ensemble: needs a network at least and a weight for each, not {len(networks)}, {given}")
        positive = torch.tensor([validation.positive("weights", weight) for weight in given], dtype=torch.float64)
        self.networks = nn.ModuleList(networks)
        self.register_buffer("weights", (positive / positive.sum()).float(), persistent=False)
        self.temperature, self.exclusive = validation.positive("temperature", temperature), exclusive

    def extra_repr(self) -> str:
        """Return the temperature and the kind of classes, for ``repr`` and so for a teacher's digest."""
        return f"temperature={self.temperature}, exclusive={self.exclusive}"

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images ``(B, C, H, W)``."""
        logits = torch.stack([logits_of(network(images)) for network in self.networks])
        return mean_logits(logits, self.weights, temperature=self.temperature, exclusive=self.exclusive)
