"""From configuration nodes to networks that fit the data."""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from stkd_lightning.models.checkpoint_file import KEY
from stkd_lightning.models.feature_hooks import logits_of
from stkd_lightning.models.input_adapter import AdaptedInput, InputSpec, declared, for_data
from stkd_lightning.models.weights import load_weights, read_checkpoint
from stkd_lightning.tasks.base import Task
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.image_size import Size, sides
from stkd_lightning.utilities.random import seeded


class Images(Protocol):
    """What a network must know of the images that it will see; data modules know it."""

    @property
    def num_classes(self) -> int:
        """Number of logits."""

    @property
    def image_size(self) -> Size:
        """Side in pixels, or height and width."""

    @property
    def task(self) -> Task:
        """What the network predicts of them."""

    @property
    def mean(self) -> Sequence[float]:
        """Of each channel, in units of 1."""

    @property
    def std(self) -> Sequence[float]:
        """Of each channel, in units of 1."""


def build_network(
    config: DictConfig,
    data: Images,
    *,
    seed: int | None = 0,
    checkpoint: str | None = None,
    input_size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """Build a network, load its weights, and put what it expects of its input before it.

    Args:
        config: a node with ``_target_``.
        data: whose images it will see.
        seed: of its first weights; ``None`` leaves the global generators as they are.
        checkpoint: file of weights; ``None`` keeps those that it was built with.
        input_size: side in pixels that it expects, in place of what the network or the checkpoint says.
        mean: that it expects, likewise.
        std: that it expects, likewise.

    Raises:
        InputError: an unknown network, weights that do not fit, or a network that does not fit the data.
    """
    if seed is not None:
        seeded(seed)
    facts = read_checkpoint(checkpoint).get(KEY, {}) if checkpoint is not None else {}
    network: nn.Module = instantiate(without_start(config) if facts else config)
    spec = declared(network)
    if checkpoint is not None:
        load_weights(network, checkpoint)
        spec = InputSpec(**facts["input"]) if "input" in facts else spec
    spec = spec.overridden(input_size, mean, std)
    network = for_data(network, spec, image_size=data.image_size, mean=data.mean, std=data.std)
    _try(network, data)
    return network


def example_of(data: Images) -> Tensor:
    """Return an image of the data's shape, all zeros, ``(1, C, H, W)``."""
    return torch.zeros(1, len(data.mean), *sides(data.image_size))


def _try(network: nn.Module, data: Images) -> None:
    """Show a network one image, before any other is trained for it.

    Raises:
        InputError: it does not take the image, or does not give one logit for each class.
    """
    name, (height, width) = type(network).__name__, sides(data.image_size)
    try:
        with torch.no_grad():
            logits = logits_of(network.eval()(example_of(data)))
    except Exception as error:  # whatever the network's own code raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"network {name}: cannot take images of {height}x{width} ({reason}); "
            "input_size=224 beside its name has them resized (timm, torchvision)"
        ) from error
    finally:
        network.train()
    shape, needed = tuple(logits.shape[1:]), data.task.logits_shape(data.num_classes, tuple(example_of(data).shape[1:]))
    if shape != needed:
        need = f"the data has {data.num_classes} classes" + (f", which need {needed}" if len(needed) > 1 else "")
        raise InputError(f"network {name}: gives {shape} values for an image, {need}")


def without_start(network: DictConfig) -> DictConfig:
    """Return a network's node without the weights that its training started from, which are not needed again."""
    unset = {"weights": None, "pretrained": False}
    inner = {k: without_start(v) for k, v in network.items() if isinstance(v, DictConfig)}
    return cast(DictConfig, OmegaConf.merge(network, inner, {k: v for k, v in unset.items() if k in network}))


def input_facts(network: nn.Module, data: Images) -> dict[str, Any]:
    """Return what a network built for some data expects of its input, as a checkpoint says it."""
    if isinstance(network, AdaptedInput):
        mean, std = network.own_normalization
        return {"size": network.size or data.image_size, "mean": mean, "std": std}
    return {"size": data.image_size, "mean": list(data.mean), "std": list(data.std)}
