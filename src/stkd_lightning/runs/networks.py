"""From configuration nodes to networks that fit the data."""

from collections.abc import Sequence
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.models.inputs import declared, for_data
from stkd_lightning.runs.fit import seeded
from stkd_lightning.weights import load_weights, read_checkpoint


def build_network(
    config: DictConfig,
    data: ArrayDataModule,
    *,
    seed: int = 0,
    checkpoint: str | None = None,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> nn.Module:
    """Build a network, load its weights, and put what it expects of its input before it.

    Args:
        config: a node with ``_target_``.
        data: whose images it will see.
        seed: of its first weights.
        checkpoint: file of weights; ``None`` keeps those that it was built with.
        input_size: side in pixels that it expects, in place of what the network or the checkpoint says.
        mean: that it expects, likewise.
        std: that it expects, likewise.

    Raises:
        InputError: an unknown network, or weights that do not fit.
    """
    seeded(seed)
    network: nn.Module = instantiate(config)
    spec = declared(network)
    if checkpoint is not None:
        load_weights(network, checkpoint)
        spec = spec.overridden(**_normalization(checkpoint))
    spec = spec.overridden(input_size, mean, std)
    return for_data(network, spec, image_size=data.image_size, mean=data.mean, std=data.std)


def _normalization(checkpoint: str) -> dict[str, Any]:
    """Return mean and standard deviation that one of this project's checkpoints was trained with."""
    from stkd_lightning.callbacks.provenance import KEY

    facts = read_checkpoint(checkpoint).get(KEY, {})
    return {name: facts["data"][name] for name in ("mean", "std")} if "data" in facts else {}
