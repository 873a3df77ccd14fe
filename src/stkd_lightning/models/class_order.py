"""The classes that a trained network names, put in the order of the data's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stkd_lightning.models.logits import logits_of
from stkd_lightning.utilities.errors import InputError

KEY = "stkd_class_names"  # an attribute that no other class has


def declare_classes(network: nn.Module, names: Sequence[str]) -> None:
    """Store the names of a network's classes on it, in the order of its logits."""
    vars(network)[KEY] = tuple(names)


def declared_classes(network: nn.Module) -> tuple[str, ...]:
    """Return the names of a network's classes; empty if it declares none."""
    return vars(network).get(KEY, ())


def is_named_alike(left: Sequence[str], right: Sequence[str]) -> bool:
    """Return whether classes have the same names in the same order, in any case and spelling of spaces."""
    return [_spelled(name) for name in left] == [_spelled(name) for name in right]


def with_order(network: nn.Module, names: Sequence[str], image: Tensor) -> nn.Module:
    """Order the classes of a network as the data's if both have the same names; else leave them.

    The rows of the classifier are moved, in place, so that the weights are those of a network for these data.

    Args:
        network: classifier; see ``declare_classes``.
        names: the data's classes in their order.
        image: an image ``(1, C, H, W)`` on which the order is checked.

    Raises:
        InputError: the classifier cannot be reordered.
    """
    own, needed = ([_spelled(name) for name in given] for given in (declared_classes(network), names))
    if own == needed or sorted(own) != sorted(needed) or len(set(own)) < len(own):
        return network
    order = torch.tensor([own.index(name) for name in needed])
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    training = network.training
    with torch.no_grad():
        before = logits_of(network.eval()(noise))
        inner = f"{getattr(network, 'base_model_prefix', '')}."
        for path, module in network.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and not path.startswith(inner):
                for tensor in (module.weight, module.bias):
                    if tensor is not None and len(tensor) == len(own):
                        tensor.copy_(tensor[order])
        after = logits_of(network(noise))
    network.train(training)
    if not torch.allclose(after, before[:, order], rtol=1e-4, atol=1e-5):
        raise InputError(
            f"network {type(network).__name__}: its classes have another order than the data's, and its classifier "
            "cannot be reordered; set teacher.network.num_classes to train a new one"
        )
    declare_classes(network, names)
    return network


def _spelled(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
