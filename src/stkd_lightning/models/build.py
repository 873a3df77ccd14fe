"""Build networks from configuration nodes and fit them to the data."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from stkd_lightning.models.audio.tagger import Tagger
from stkd_lightning.models.class_order import declared_classes, with_order
from stkd_lightning.models.input_adapter import INTERPOLATIONS, AdaptedInput, InputSpec, declared, for_data, is_input
from stkd_lightning.models.logits import logits_of
from stkd_lightning.models.start import facts_of, with_start, without_start
from stkd_lightning.models.weights import fitting_state, load_content, read_checkpoint
from stkd_lightning.tasks.base import Task
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.image_size import Size, shape_of
from stkd_lightning.utilities.random import seeded

LARGEST_PART = 10**9  # parameters of a network inside a checkpoint's network


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
    compare_first: bool = False,
    input_size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    any_classes: bool = False,
) -> nn.Module:
    """Build a network, load its weights, and adapt its input to the data.

    Args:
        config: a node with ``_target_``; an ``image_size`` of ``None`` becomes that of the data.
        data: the images that the network gets.
        seed: seed of its first weights; ``None`` does not seed the global generators.
        checkpoint: file of weights; ``None`` keeps the first weights.
        checkpoint_key: which weights of the file; see ``load_weights``.
        compare_first: compare the weights' names and shapes with the network's before it takes any memory, for a node
            that comes from a file.
        input_size: input size of the network, in place of that of the network or the checkpoint.
        mean: mean of its input, likewise.
        std: standard deviation of its input, likewise.
        interpolation: way in which its input is resized, likewise.
        any_classes: accept another number of classes than the data's, for losses that read features alone.

    Raises:
        InputError: an unknown network, weights that do not fit, or a network that does not fit the data.
    """
    if seed is not None:
        seeded(seed)
    content = {} if checkpoint is None else read_checkpoint(checkpoint)
    facts = facts_of(content)
    # Hydra resolves in place, also nodes of read-only settings that an interpolation leads to; so a copy is resolved.
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    if plain.get("image_size", 0) is None and data.mean and not data.task.dense:
        plain["image_size"] = data.image_size  # of a network that is run on an image when it is built
    node = without_start(plain) if facts else OmegaConf.create(with_start(plain))
    if compare_first:
        _compare(node, content, checkpoint, data.num_classes)
    try:
        network: nn.Module = instantiate(node)
    except InstantiationException as error:
        raise error.__cause__ if isinstance(error.__cause__, InputError) else error from None
    if not isinstance(network, nn.Module):
        raise InputError(f"{node.get('_target_')}: returns a {type(network).__name__}, not a network (torch.nn.Module)")
    spec = declared(network)
    if checkpoint is not None:
        load_content(network, content, checkpoint, checkpoint_key)
        if input_size is None and not is_input(facts.get("input", {}), data.image_size):
            raise InputError(f"checkpoint {checkpoint}: its input is not valid: {str(facts['input'])[:100]}")
        spec = InputSpec(**facts["input"]) if "input" in facts else spec
    spec = spec.overridden(input_size, mean, std, interpolation)
    if checkpoint is None and declared_classes(network):
        size = shape_of(len(data.mean), spec.size or data.image_size)
        network = with_order(network, getattr(data, "class_names", ()), torch.zeros(1, *size))
    return _adapted(network, spec, data, any_classes=any_classes)


def _compare(node: DictConfig, content: Mapping[Any, Any], checkpoint: str | None, num_classes: int) -> None:
    """Compare the names and shapes of weights with those of a network that takes no memory.

    Raises:
        InputError: they do not fit, or a network inside the node is too large.
    """
    for name in ("student", "teacher"):  # of a network that reuses a classifier, which an image must pass
        inner = node.get(name)
        network = _without_memory(inner) if isinstance(inner, DictConfig) else None
        size = sum(p.numel() for p in network.parameters()) if network is not None else 0
        if size > LARGEST_PART:
            raise InputError(f"checkpoint {checkpoint}: its {name} has {size:,} parameters, too many to build")
    network = _without_memory(node)
    if network is not None and checkpoint is not None:
        fitting_state(network, content, checkpoint)
    elif (
        str(node.get("_target_")).startswith("stkd_lightning.") and node.get("num_classes", num_classes) != num_classes
    ):
        # torchvision's RegNets cannot be built without memory.
        raise InputError(f"checkpoint {checkpoint}: its network has {node.num_classes} classes, the data {num_classes}")


def _without_memory(node: DictConfig) -> nn.Module | None:
    """Build a network on the meta device; ``None`` if it cannot be built there."""
    try:
        with torch.device("meta"):
            return instantiate(node)
    except Exception:  # a class may read values; building it as usual shows its own faults
        return None


def example_of(data: Images) -> Tensor:
    """Return an input of the data's shape, all zeros: an image ``(1, C, H, W)`` or a clip ``(1, T)``."""
    return torch.zeros(1, *shape_of(len(data.mean), data.image_size))


def _adapted(network: nn.Module, spec: InputSpec, data: Images, *, any_classes: bool) -> nn.Module:
    """Adapt a network to the data, and check its logits of an image.

    Raises:
        InputError: the network fails on the image, or does not return one logit for each class.
    """
    dense, size, mean, std = data.task.dense, data.image_size, data.mean, data.std
    _check_rate(network, data)
    network = for_data(network, spec, image_size=size, mean=mean, std=std, dense=dense)
    shape = _logits_shape(network, data)
    needed = data.task.logits_shape(data.num_classes, shape_of(len(mean), size))
    if dense and len(shape) == 3 and shape[1:] != needed[1:]:
        # Some networks, as those of transformers, leave it to their user to resize their scores.
        network = AdaptedInput(network, spec, mean, std, dense=True)
        shape = _logits_shape(network, data)
    if shape != needed and not (any_classes and len(shape) == len(needed) and shape[1:] == needed[1:]):
        need = f"the data has {data.num_classes} classes" + (f", which need {needed}" if len(needed) > 1 else "")
        advice = ""
        if len(shape) != len(needed):
            advice = (
                "; networks for them: dilated_resnet, smp and torchvision_segmentation (student=, teacher=)"
                if dense
                else "; this network gives a class for each pixel, others, such as resnet8x4, for the image"
            )
        name = type(network.network if isinstance(network, AdaptedInput) else network).__name__
        raise InputError(f"network {name}: gives {shape} values for an image, {need}{advice}")
    return network


def _check_rate(network: nn.Module, data: Images) -> None:
    """Refuse a front end for another sample rate than that of the clips.

    Raises:
        InputError: names both rates.
    """
    rate = getattr(data, "sample_rate", None)
    own = network.front_end.sample_rate if isinstance(network, Tagger) else rate
    if rate is not None and own != rate:
        raise InputError(f"front_end.sample_rate={own}: the clips have {rate} samples a second")


def classes_of(network: nn.Module, data: Images) -> int:
    """Return the number of classes of a network that was built for some data."""
    return _logits_shape(network, data)[0]


def _logits_shape(network: nn.Module, data: Images) -> tuple[int, ...]:
    """Return the shape of a network's logits of one image; it is run before other networks are trained for it.

    Raises:
        InputError: the network fails on the image.
    """
    name, inputs = type(network).__name__, example_of(data)
    try:
        with torch.no_grad():
            shape = tuple(logits_of(network.eval()(inputs)).shape[1:])
            if getattr(data, "padded", False):  # clips of unequal lengths
                inputs = torch.stack([inputs, torch.ones_like(inputs)], dim=1)
                shape = tuple(logits_of(network(inputs)).shape[1:])
            return shape
    except Exception as error:  # the network's code may raise any type
        kind = f"images of {inputs.shape[2]}x{inputs.shape[3]}" if inputs.ndim == 4 else f"clips {tuple(inputs.shape)}"
        advice = (
            "input_size=224 beside its name has them resized (timm, torchvision)"
            if inputs.ndim == 4
            else "networks for clips: cnn and crnn (student=, teacher=); unequal clips are (batch, 2, samples)"
        )
        raise InputError(f"network {name}: cannot take {kind} ({reason(error)}); {advice}") from error
    finally:
        network.train()


def input_facts(network: nn.Module, data: Images) -> dict[str, Any]:
    """Return the input size and normalization of a network built for some data, as a checkpoint stores them.

    A network of a dense task that does not resize images takes any size, ``None``; so does one of clips.
    """
    if not data.mean:
        return {"size": None, "mean": None, "std": None}
    size = None if data.task.dense else data.image_size
    if isinstance(network, AdaptedInput):
        mean, std = network.normalization
        way = {} if network.interpolation == INTERPOLATIONS[0] else {"interpolation": network.interpolation}
        return {"size": network.size or size, "mean": mean, "std": std, **way}
    return {"size": size, "mean": list(data.mean), "std": list(data.std)}
