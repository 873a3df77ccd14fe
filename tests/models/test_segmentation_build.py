"""Segmentation networks are built for data, measured, folded, copied for inference and saved as classifiers are."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models import AdaptedInput, FeatureTap, InputSpec, NetworkInspector, for_data
from stkd_lightning.models.build import build_network, example_of, input_facts
from stkd_lightning.models.checkpoint_file import KEY
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.models.fold_batch_norm import fold_batch_norm
from stkd_lightning.models.input_adapter import declare
from stkd_lightning.models.memory_format import channels_last
from stkd_lightning.models.start import without_start
from stkd_lightning.tasks.segmentation import Segmentation
from stkd_lightning.teacher.inference_copy import InferenceCopy
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.image_size import Size

OWN = {"_target_": "stkd_lightning.models.DilatedResNet", "num_classes": 3, "width": 4}
SMP = {"_target_": "stkd_lightning.models.smp_model", "num_classes": 3, "encoder": "resnet18"}
TORCHVISION = {"_target_": "stkd_lightning.models.torchvision_segmentation_model", "num_classes": 3}
NODES = {
    "own": OWN,
    "FPN": {**SMP, "name": "FPN"},
    "DeepLabV3Plus": {**SMP, "name": "DeepLabV3Plus", "encoder": "mobilenet_v2"},
    "Segformer": {**SMP, "name": "Segformer", "encoder": "mit_b0"},
    "lraspp": {**TORCHVISION, "name": "lraspp_mobilenet_v3_large"},
    "deeplabv3": {**TORCHVISION, "name": "deeplabv3_mobilenet_v3_large", "auxiliary": True},
}


@dataclass(frozen=True)
class Streets:
    """The properties of a data set of images with masks."""

    image_size: Size = (45, 70)
    num_classes: int = 3
    mean: tuple[float, ...] = (0.4, 0.4, 0.4)
    std: tuple[float, ...] = (0.3, 0.3, 0.3)

    @property
    def task(self) -> Segmentation:
        return Segmentation(("road", "sky", "car"))


DATA = Streets()
IMAGES = torch.randn(2, 3, 45, 70, generator=torch.Generator().manual_seed(0))


def build(node: dict[str, Any], data: Streets = DATA, **options: Any) -> nn.Module:
    return build_network(OmegaConf.create(node), data, **options)


@pytest.mark.parametrize("name", NODES)
def test_build_gives_scores_of_the_image(name: str) -> None:
    network = build(NODES[name]).eval()
    assert not isinstance(network, AdaptedInput)
    for size in ((45, 70), (33, 50)):
        with torch.no_grad():
            assert network(torch.randn(2, 3, *size)).shape == (2, 3, *size)
    assert input_facts(network, DATA) == {"size": None, "mean": [0.4] * 3, "std": [0.3] * 3}


@pytest.mark.parametrize("name", NODES)
def test_work_is_counted_without_a_warning(name: str) -> None:
    network = build(NODES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert flops(network, (64, 96)) > 2 * parameters(network)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NODES)
def test_inference_copy_is_within_tolerance(name: str, dtype: torch.dtype) -> None:
    network = build(NODES[name]).eval()
    layers = NetworkInspector(network, example_of(DATA)).layers
    paths = [*layers.stages, layers.embedding, layers.head]
    with torch.no_grad():
        teacher = InferenceCopy(network, paths, IMAGES, dtype)
        output = teacher(IMAGES)
        exact = FeatureTap(network, paths)(IMAGES)
    assert teacher.within_tolerance
    assert output.logits.shape == (2, 3, 45, 70)
    assert {path: value.shape for path, value in output.features.items()} == {
        path: value.shape for path, value in exact.features.items()
    }
    if dtype == torch.float32:
        for path, value in exact.features.items():
            torch.testing.assert_close(output.features[path], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "left"), [("own", 0), ("FPN", 0), ("lraspp", 0)])
def test_batch_norm_is_folded(name: str, left: int) -> None:
    network = channels_last(build(NODES[name])).eval()
    with torch.no_grad():
        exact = network(IMAGES)
        fold_batch_norm(network, IMAGES)
        torch.testing.assert_close(network(IMAGES), exact, rtol=1e-3, atol=1e-4)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == left


def test_resized_images_get_scores_of_their_own_size() -> None:
    network = build({**NODES["FPN"], "input_size": [64, 96]}).eval()
    assert isinstance(network, AdaptedInput)
    assert type(network.size) is tuple  # not Hydra's list, which a checkpoint would not hold
    assert input_facts(network, DATA)["size"] == (64, 96)
    for size in ((45, 70), (64, 96), (100, 30)):
        images = torch.randn(2, 3, *size)
        resized = F.interpolate(images, (64, 96), mode="bilinear", antialias=True) if size != (64, 96) else images
        with torch.no_grad():
            expected = F.interpolate(network.network(resized), size, mode="bilinear", align_corners=False)
            torch.testing.assert_close(network(images), expected)


def test_images_of_one_size_do_not_hide_a_fixed_input() -> None:
    """Evaluation images may be larger than the crops of training."""
    network = build({**OWN, "_target_": f"{__name__}.FixedSize"}, Streets((48, 64))).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 50, 90)).shape == (1, 3, 50, 90)


class FixedSize(nn.Module):
    """A network of images of 48x64."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, num_classes, 3, padding=1)
        declare(self, InputSpec((48, 64)))

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2:] == (48, 64)
        return self.head(images)


class SmallScores(nn.Module):
    """A network whose scores have a quarter of the image's sides, in an object as of transformers."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, width, 3, 4, 1), nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Any:
        return SimpleNamespace(logits=self.head(self.body(images).relu()))


def test_small_scores_are_resized_to_the_image(tmp_path: Path) -> None:
    node = {**OWN, "_target_": f"{__name__}.SmallScores"}
    network = build(node).eval()
    with torch.no_grad():
        scores = network(IMAGES)
        small = network.network(IMAGES).logits
    torch.testing.assert_close(scores, F.interpolate(small, (45, 70), mode="bilinear", align_corners=False))
    assert NetworkInspector(network, example_of(DATA)).layers.head == "head"
    torch.save({"state_dict": network.network.state_dict(), KEY: {"input": input_facts(network, DATA)}}, tmp_path / "a")
    again = build(node, checkpoint=str(tmp_path / "a")).eval()
    with torch.no_grad():
        assert torch.equal(again(IMAGES), scores)


def test_normalization_of_pretrained_weights_comes_back_from_a_checkpoint(tmp_path: Path) -> None:
    network = build(NODES["own"], mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)).eval()
    assert isinstance(network, AdaptedInput)
    facts = input_facts(network, DATA)
    torch.save({"state_dict": network.network.state_dict(), KEY: {"input": facts}}, tmp_path / "a")
    again = build(NODES["own"], checkpoint=str(tmp_path / "a")).eval()
    with torch.no_grad():
        assert torch.equal(again(IMAGES), network(IMAGES))


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({**OWN, "num_classes": 4}, r"DilatedResNet: gives \(4, 45, 70\) values for an image, the data has 3 classes"),
        (
            {"_target_": "stkd_lightning.models.create_model", "name": "resnet8", "num_classes": 3},
            r"ResNet: gives \(3,\) values for an image, the data has 3 classes, which need \(3, 45, 70\); networks for",
        ),
        ({**SMP, "name": "PAN"}, "PAN: cannot take images of 45x70"),
    ],
    ids=["classes", "classifier", "size"],
)
def test_networks_that_do_not_fit_are_refused(node: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build(node)


def test_a_classifier_is_not_resized() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    adapted = for_data(network, InputSpec(16), image_size=8, mean=DATA.mean, std=DATA.std)
    assert adapted(torch.randn(2, 3, 8, 8)).shape == (2, 3)


def test_a_part_behind_the_adaptation_is_not_resized() -> None:
    adapted = AdaptedInput(nn.Sequential(nn.Conv2d(3, 2, 3, 2, 1)), InputSpec(16), DATA.mean, DATA.std, dense=True)
    part = adapted.before(adapted.network)
    images = torch.randn(1, 3, 12, 12)
    assert (adapted(images).shape, part(images).shape) == ((1, 2, 12, 12), (1, 2, 8, 8))
    assert part.network is adapted.network


def test_downloaded_weights_are_not_loaded_again() -> None:
    node = OmegaConf.create({**TORCHVISION, "name": "fcn_resnet50", "pretrained": True, "weights_backbone": "DEFAULT"})
    assert without_start(node) == {**node, "pretrained": False, "weights_backbone": None}
