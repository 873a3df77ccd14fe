"""Build networks from configuration nodes and fit them to the data."""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from stkd_lightning.models.checkpoint_file import KEY
from stkd_lightning.models.feature_hooks import logits_of
from stkd_lightning.models.input_adapter import AdaptedInput, InputSpec, declared, for_data
from stkd_lightning.models.weights import load_content, read_checkpoint
from stkd_lightning.tasks.base import Task
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.image_size import Size, sides
from stkd_lightning.utilities.random import seeded


class Images(Protocol):
    """The properties of images that a network must fit; data modules have them."""

    @property
    def num_classes(self) -> int:
        """Number of logits."""

    @property
    def image_size(self) -> Size:
        """Side in pixels, or height and width."""

    @property
    def task(self) -> Task:
        """The task of the network."""

    @property
    def mean(self) -> Sequence[float]:
        """Mean of each channel, in units of 1."""

    @property
    def std(self) -> Sequence[float]:
        """Standard deviation of each channel, in units of 1."""


def build_network(
    config: DictConfig,
    data: Images,
    *,
    seed: int | None = 0,
    checkpoint: str | None = None,
    checkpoint_key: str | None = None,
    input_size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """Build a network, load its weights, and adapt its input to the data.

    Args:
        config: a node with ``_target_``.
        data: the images that the network gets.
        seed: seed of its first weights; ``None`` does not seed the global generators.
        checkpoint: file of weights; ``None`` keeps the first weights.
        checkpoint_key: which weights of the file; see ``load_weights``.
        input_size: input size of the network, in place of that of the network or the checkpoint.
        mean: mean of its input, likewise.
        std: standard deviation of its input, likewise.

    Raises:
        InputError: an unknown network, weights that do not fit, or a network that does not fit the data.
    """
    if seed is not None:
        seeded(seed)
    content = {} if checkpoint is None else read_checkpoint(checkpoint)
    facts = content.get(KEY, {})
    # Hydra resolves in place, also nodes of read-only settings that an interpolation leads to; so a copy is resolved.
    node = cast(DictConfig, OmegaConf.create(OmegaConf.to_container(config, resolve=True)))
    network: nn.Module = instantiate(without_start(node) if facts else node)
    spec = declared(network)
    if checkpoint is not None:
        load_content(network, content, checkpoint, checkpoint_key)
        spec = InputSpec(**facts["input"]) if "input" in facts else spec
    spec = spec.overridden(input_size, mean, std)
    network = for_data(network, spec, image_size=data.image_size, mean=data.mean, std=data.std)
    _try(network, data)
    return network


def example_of(data: Images) -> Tensor:
    """Return an image of the data's shape, all zeros, ``(1, C, H, W)``."""
    return torch.zeros(1, len(data.mean), *sides(data.image_size))


def _try(network: nn.Module, data: Images) -> None:
    """Run a network on one image, before other networks are trained for it.

    Raises:
        InputError: it fails on the image, or does not return one logit for each class.
    """
    name, (height, width) = type(network).__name__, sides(data.image_size)
    try:
        with torch.no_grad():
            logits = logits_of(network.eval()(example_of(data)))
    except Exception as error:  # the network's code may raise any type
        raise InputError(
            f"network {name}: cannot take images of {height}x{width} ({reason(error)}); "
            "input_size=224 beside its name has them resized (timm, torchvision)"
        ) from error
    finally:
        network.train()
    shape, needed = tuple(logits.shape[1:]), data.task.logits_shape(data.num_classes, tuple(example_of(data).shape[1:]))
    if shape != needed:
        need = f"the data has {data.num_classes} classes" + (f", which need {needed}" if len(needed) > 1 else "")
        raise InputError(f"network {name}: gives {shape} values for an image, {need}")


def without_start(network: DictConfig) -> DictConfig:
    """Return a network's node without the weights from which its training started."""
    unset = {"weights": None, "pretrained": False}
    inner = {k: without_start(v) for k, v in network.items() if isinstance(v, DictConfig)}
    return cast(DictConfig, OmegaConf.merge(network, inner, {k: v for k, v in unset.items() if k in network}))


def input_facts(network: nn.Module, data: Images) -> dict[str, Any]:
    """Return the input size and normalization of a network built for some data, as a checkpoint stores them."""
    if isinstance(network, AdaptedInput):
        mean, std = network.normalization
        return {"size": network.size or data.image_size, "mean": mean, "std": std}
    return {"size": data.image_size, "mean": list(data.mean), "std": list(data.std)}
