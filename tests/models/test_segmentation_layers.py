"""The layers of segmentation networks that declare none are found by a run."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models import (
    AdaptedInput,
    DilatedResNet,
    FeatureTap,
    InputSpec,
    Layers,
    NetworkInspector,
    smp_model,
    torchvision_segmentation_model,
)
from stkd_lightning.utilities.errors import InputError

IMAGE = torch.zeros(1, 3, 64, 96)
RESNET = tuple(f"encoder.{stage}" for stage in ("relu", "layer1", "layer2", "layer3", "layer4"))
MOBILENET = tuple(f"encoder.features.{i}" for i in (0, 1, 3, 6, 10, 13, 16, 17, 18))
EMBEDDINGS = {
    "Unet": "decoder.blocks.4.conv2.2",
    "FPN": "decoder.merge",
    "PSPNet": "decoder.conv.2",
    "DeepLabV3Plus": "decoder.block2.2",
    "Segformer": "decoder.fuse_stage.2",
}


@pytest.mark.parametrize(("encoder", "stages"), [("resnet18", RESNET), ("mobilenet_v2", MOBILENET)])
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_layers_of_smp(name: str, encoder: str, stages: tuple[str, ...]) -> None:
    stages = stages if name != "PSPNet" else stages[: {"resnet18": 3, "mobilenet_v2": 6}[encoder]]
    # With 16 classes the scores have the channels of other maps.
    probe = NetworkInspector(smp_model(name, 16, encoder), IMAGE)
    assert probe.layers == Layers(stages, stages[-1], EMBEDDINGS[name], "segmentation_head.0")


def test_layers_of_transformer_and_timm_encoders() -> None:
    mit = NetworkInspector(smp_model("Segformer", 5, "mit_b0"), IMAGE)
    assert mit.layers.stages == tuple(f"encoder.norm{i}" for i in (1, 2, 3, 4))
    assert [shape[1:3].numel() for shape in mit.shapes(mit.layers.stages)] == [32 * 16, 64 * 8, 160 * 4, 256 * 2]
    timm = NetworkInspector(smp_model("FPN", 5, "tu-resnet10t"), IMAGE)
    assert timm.layers.stages == tuple(f"encoder.model.{s}" for s in ("act1", "layer1", "layer2", "layer3", "layer4"))


LRASPP = Layers(
    tuple(f"backbone.{i}" for i in (1, 3, 6, 10, 12, 15, 16)),
    "backbone.16",
    "classifier.high_classifier:input",
    "classifier",
)
FCN = Layers(
    tuple(f"backbone.{stage}" for stage in ("relu", "layer1", "layer2", "layer3", "layer4")),
    "backbone.layer4",
    "classifier.2",
    "classifier.4",
    "aux_classifier",
)
DEEPLAB = Layers(LRASPP.stages, "backbone.16", "classifier.3", "classifier.4", "aux_classifier")


@pytest.mark.parametrize(
    ("name", "layers"),
    [("fcn_resnet50", FCN), ("deeplabv3_mobilenet_v3_large", DEEPLAB), ("lraspp_mobilenet_v3_large", LRASPP)],
)
def test_layers_of_torchvision(name: str, layers: Layers) -> None:
    probe = NetworkInspector(torchvision_segmentation_model(name, 5, auxiliary=bool(layers.auxiliary)), IMAGE)
    assert probe.layers == layers
    assert [len(shape) for shape in probe.shapes([*layers.stages, layers.embedding, layers.head])] == [4] * (
        len(layers.stages) + 2
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("FPN", {"encoder": "mobilenet_v2"}),
        ("DeepLabV3Plus", {"encoder": "resnet18"}),
        ("Unet", {"encoder": "resnet18"}),
    ],
)
def test_head_gives_the_scores_and_reads_the_embedding(name: str, options: dict[str, Any]) -> None:
    network = smp_model(name, 5, **options).eval()
    layers = NetworkInspector(network, IMAGE).layers
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        output = FeatureTap(network, [layers.head, layers.embedding])(images)
        scores = output.features[layers.head]
        torch.testing.assert_close(F.interpolate(scores, (64, 96), mode="bilinear", align_corners=True), output.logits)
        head = network.get_submodule(layers.head)
        torch.testing.assert_close(head(output.features[layers.embedding]), scores)


def test_layers_of_a_network_without_encoder_are_its_children() -> None:
    class Undeclared(DilatedResNet):
        feature_layers = None  # type: ignore[assignment]

    layers = NetworkInspector(Undeclared(5, 4), IMAGE).layers
    assert layers == Layers(("stem", "layer1", "layer2", "layer3", "head"), "head", "head.2", "classifier")


def test_layers_behind_a_resize_are_those_of_the_network() -> None:
    network = smp_model("FPN", 5, "resnet18")
    adapted = AdaptedInput(network, InputSpec(size=(128, 64)), (0.5,) * 3, (0.25,) * 3)
    assert NetworkInspector(adapted, IMAGE).layers == NetworkInspector(network, IMAGE).layers


class Fixed(nn.Module):
    """A network of one image size, whose scores of a quarter of the side are an attribute of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU())
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, images: Tensor) -> Any:
        assert images.shape[2:] == (64, 96)
        return SimpleNamespace(logits=self.head(self.encoder(images)))


def test_layers_of_a_network_of_one_size_and_smaller_scores() -> None:
    assert NetworkInspector(Fixed(), IMAGE).layers == Layers(("encoder",), "encoder", "encoder.3", "head")


def test_scores_of_no_module_are_refused() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.coarse, self.fine = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(3, 5, 3, padding=1)

        def forward(self, images: Tensor) -> Tensor:
            return self.fine(images) + F.interpolate(self.coarse(images), images.shape[2:])

    with pytest.raises(InputError, match="Sum: no module gives its class scores; set student_layers"):
        NetworkInspector(Sum(), IMAGE).layers  # noqa: B018


def test_network_that_cannot_take_its_images_is_refused() -> None:
    network = smp_model("PAN", 5, "resnet18")  # pools a map of stride 16 three times
    with pytest.raises(InputError, match=r"PAN: cannot be run on an image of shape \(1, 3, 64, 96\)"):
        NetworkInspector(network, IMAGE).layers  # noqa: B018


def test_stages_are_found_without_values() -> None:
    with torch.device("meta"):
        assert NetworkInspector(smp_model("FPN", 5, "resnet18"), IMAGE).layers.stages == RESNET


def test_search_leaves_no_trace() -> None:
    network = smp_model("FPN", 5, "resnet18").train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    numbers = torch.get_rng_state()
    assert NetworkInspector(network, IMAGE).layers.head == "segmentation_head.0"
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert torch.equal(torch.get_rng_state(), numbers)
