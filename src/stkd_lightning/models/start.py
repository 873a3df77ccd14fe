"""The weights from which the training of a network starts: those that its node names, loaded or left out."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from stkd_lightning.models.checkpoint_file import KEY
from stkd_lightning.models.input_adapter import declare, declared, is_input
from stkd_lightning.models.weights import load_content, read_checkpoint
from stkd_lightning.utilities.errors import InputError

DIGEST = "checkpoint_digest"  # a node with it is a student's, whose class knows none of these options
START = ("checkpoint", "checkpoint_key", DIGEST)
UNSET = {"weights": None, "weights_backbone": None, "pretrained": False}


def started(network: nn.Module, checkpoint: str, key: str | None = None) -> nn.Module:
    """Load the weights of a checkpoint into a network, which expects the normalization that they were trained with.

    Args:
        network: receives the weights.
        checkpoint: file in any format of ``load_weights``.
        key: which weights of the file; see ``load_weights``.

    Raises:
        InputError: the file cannot be read, or its weights do not fit.
    """
    content = read_checkpoint(checkpoint)
    load_content(network, content, checkpoint, key)
    trained = facts_of(content).get("input", {})
    if not is_input(trained, 1):
        raise InputError(f"checkpoint {checkpoint}: its input is not valid: {str(trained)[:100]}")
    # The student keeps the size of the data: its weights are trained further.
    return declare(network, declared(network).overridden(mean=trained.get("mean"), std=trained.get("std")))


def facts_of(content: Mapping[Any, Any]) -> Mapping[str, Any]:
    """Return a checkpoint's record of its network; an empty one if it has none."""
    facts = content.get(KEY)
    return facts if isinstance(facts, Mapping) else {}


def with_start(node: dict[str, Any]) -> dict[str, Any]:
    """Return a plain node for ``instantiate`` that loads the checkpoints from which networks in it start."""
    network = {k: with_start(v) if isinstance(v, dict) else v for k, v in node.items()}
    if DIGEST not in network:
        return network
    checkpoint, key, _ = (network.pop(option, None) for option in START)
    if checkpoint is None:
        return network
    return {"_target_": f"{__name__}.started", "network": network, "checkpoint": checkpoint, "key": key}


def without_start(node: Mapping[str, Any] | DictConfig) -> DictConfig:
    """Return a network's node without the weights from which its training started."""
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    return OmegaConf.create(plain_without_start(plain))


def plain_without_start(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same as plain containers."""
    left_out = START if DIGEST in node else ()
    kept = {k: v for k, v in node.items() if k not in left_out}
    inner = {k: plain_without_start(v) for k, v in kept.items() if isinstance(v, dict)}
    # A node in place of a file stays, so that an untrusted one is seen.
    return kept | inner | {k: v for k, v in UNSET.items() if k in kept and not isinstance(kept[k], dict | list)}
