"""Networks that start from the weights of a file, and nodes without them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from omegaconf import OmegaConf

from stkd_lightning.commands.training.pretrain import _with_digests
from stkd_lightning.models import AdaptedInput, create_model
from stkd_lightning.models.build import Images, build_network
from stkd_lightning.models.checkpoint_file import KEY
from stkd_lightning.models.start import without_start
from stkd_lightning.tasks.classification import Classification

NODE = {"_target_": "stkd_lightning.models.create_model", "name": "resnet8", "num_classes": 10}
DATA = SimpleNamespace(num_classes=10, image_size=16, task=Classification(), mean=(0.5,) * 3, std=(0.25,) * 3)


def student(**options: Any) -> dict[str, Any]:
    return NODE | {"checkpoint": None, "checkpoint_key": None, "checkpoint_digest": None} | options


def build(node: dict[str, Any]) -> torch.nn.Module:
    return build_network(OmegaConf.create(node), cast(Images, DATA))


def test_a_student_keeps_the_normalization_of_its_weights(tmp_path: Path) -> None:
    """The size is that of the data."""
    trained, mean = create_model("resnet8", num_classes=10), [0.1, 0.2, 0.3]
    facts = {"input": {"size": 32, "mean": mean, "std": [0.25] * 3}}
    torch.save({"state_dict": trained.state_dict(), KEY: facts}, tmp_path / "a.ckpt")
    network = build(student(checkpoint=str(tmp_path / "a.ckpt")))
    assert isinstance(network, AdaptedInput)
    assert network.size is None
    assert network.normalization[0] == pytest.approx(mean)
    torch.testing.assert_close(network.network.fc.weight, trained.fc.weight)


def test_an_inner_student_starts_too(tmp_path: Path) -> None:
    weights = create_model("resnet8", num_classes=10).state_dict()
    torch.save({"a": weights, "b": {k: v + 1 for k, v in weights.items()}}, tmp_path / "two.pth")
    inner = student(checkpoint=str(tmp_path / "two.pth"), checkpoint_key="a")
    network = build({"_target_": "stkd_lightning.models.reuse_classifier", "student": inner, "teacher": NODE})
    torch.testing.assert_close(network.conv1.weight, weights["conv1.weight"])


def test_a_node_without_start_is_as_without_the_options() -> None:
    node = {"_target_": "x", "student": student(checkpoint="a.pth", weights="b.pth"), "teacher": NODE}
    plain = NODE | {"weights": None}
    assert OmegaConf.to_container(without_start(node)) == node | {"student": plain}
    of_others = {"_target_": "x", "checkpoint": "their option"}
    assert OmegaConf.to_container(without_start(of_others)) == of_others


def test_keys_tell_starts_apart_and_stay_without() -> None:
    assert _with_digests(student()) == NODE
    assert _with_digests(student(checkpoint="a.pth", checkpoint_digest="d")) == NODE | {"checkpoint_digest": "d"}
