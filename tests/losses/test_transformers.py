"""Losses over pairs of samples on transformers: they read what the classifier reads."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stkd_lightning import DistillationModule
from stkd_lightning.losses import CCKDLoss, PKTLoss, RKDLoss, SPLoss
from stkd_lightning.models import FeatureTap, NetworkInspector, create_model
from stkd_lightning.models.layers import Layers
from stkd_lightning.tasks.types import Batch
from stkd_lightning.teacher import FrozenTeacher
from tests.huggingface import saved

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def of_timm(pooling: str = "token") -> nn.Module:
    import timm

    return timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=8, depth=2, embed_dim=24, num_heads=2, num_classes=10,
        global_pool=pooling,
    )  # fmt: skip


def of_torchvision() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(16, 8, 2, 2, 24, 32, num_classes=10)


@pytest.fixture(params=["timm", "torchvision", "transformers"])
def transformer(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[nn.Module, str, str]:
    """A network of a library, the path of its last tokens and the path of a block."""
    if request.param == "timm":
        return of_timm(), "norm", "blocks.0"
    if request.param == "torchvision":
        network = of_torchvision()
        nn.init.normal_(network.heads.head.weight)
        return network, "encoder.ln", "encoder.layers.encoder_layer_0"
    return saved("vit", tmp_path, classes=10), "vit.layernorm", "vit.layers.0"


@pytest.mark.parametrize("loss", [SPLoss, RKDLoss, PKTLoss, CCKDLoss])
def test_a_transformer_teaches_by_what_it_classifies(loss: Any, transformer: tuple[nn.Module, str, str]) -> None:
    network, last, block = transformer
    network.eval()
    read: Any = DistillationModule(
        create_model("resnet8", num_classes=10), loss(), FrozenTeacher(network), example=IMAGES[:1]
    ).loss
    (path,) = read.features.teacher
    features = FeatureTap(network, [path, last, block])(IMAGES).features
    torch.testing.assert_close(features[path], features[last][:, 0])
    assert read.tokens == (None, None)
    batch = Batch(IMAGES, torch.arange(4))
    named = [loss(teacher_layers=name) for name in (path, last, block)]
    terms = [_terms(part, network, batch) for part in named]
    assert terms[0] == pytest.approx(terms[1], rel=1e-4)
    assert [part.tokens[1] for part in named] == [None, slice(0, 1), slice(0, 1)]
    assert terms[2] != pytest.approx(terms[0], rel=1e-4)


def _terms(loss: Any, network: nn.Module, batch: Batch) -> list[float]:
    torch.manual_seed(0)
    module = DistillationModule(
        create_model("resnet8", num_classes=10), loss, FrozenTeacher(network), example=batch.inputs[:1]
    )
    return [float(value.detach()) for value in module.terms(batch).values()]


def test_a_mean_is_read_where_the_network_takes_the_mean() -> None:
    inspector = NetworkInspector(of_timm("avg"), IMAGES[:1])
    assert inspector.tokens("blocks.1") == slice(1, None)
    assert inspector.tokens(inspector.layers.embedding) is None


def test_an_embedding_has_the_shape_of_the_mean() -> None:
    loss = CCKDLoss(embedding_width=5, student_layers="blocks.1", teacher_layers="blocks.1")
    inspector = NetworkInspector(of_timm(), IMAGES[:1])
    loss.prepare(inspector, inspector)
    assert loss.student_embedding[1].in_features == 24


def test_tokens_of_a_network_that_shows_none_stay() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.fc = nn.Linear(16, 4), nn.Linear(48 * 4, 10)

        def forward(self, images: Tensor) -> Tensor:
            return self.fc(self.tokens(images.flatten(1, 2)).flatten(1))

    assert NetworkInspector(Flat(), IMAGES[:1]).tokens("tokens") is None


def test_attention_weights_are_no_stage() -> None:
    import timm

    network = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=56, embed_dim=12, depths=(1, 1), num_heads=(2, 2), num_classes=10
    )
    layers = NetworkInspector(network, torch.zeros(1, 3, 56, 56)).layers
    assert isinstance(layers, Layers)
    assert (layers.stages, layers.embedding) == ((), "head.global_pool")
