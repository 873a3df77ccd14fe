from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.models import (
    AdaptedInput,
    FeatureTap,
    InputSpec,
    NetworkInspector,
    create_model,
    for_data,
    timm_model,
    torchvision_model,
)
from stkd_lightning.models.adapters.torchvision import replace_classifier
from stkd_lightning.models.input_adapter import declared
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import InputError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def test_features_are_the_outputs_of_named_modules() -> None:
    network = create_model("resnet8", num_classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        output = FeatureTap(network, ["layer3", "layer1.0.bn2"])(images)
        assert output.features["layer3"].shape == (2, 64, 8, 8)
        assert output.features["layer1.0.bn2"].shape == (2, 16, 32, 32)
        torch.testing.assert_close(output.logits, network.fc(output.features["layer3"].mean((2, 3))))


def test_features_of_one_call_do_not_outlive_it() -> None:
    tap = FeatureTap(create_model("resnet8", num_classes=10), ["layer3"])
    tap(torch.randn(2, 3, 8, 8))
    assert tap._features is None


def test_an_unknown_feature_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r"feature of ResNet 'layer4': unknown; did you mean layer\d"):
        FeatureTap(create_model("resnet8", num_classes=10), ["layer4"])


class Answering(nn.Module):
    """A classifier whose output, and that of the module in it, has one of many forms."""

    class Inner(nn.Module):
        def forward(self, images: torch.Tensor, form: str) -> Any:
            pooled = images.mean((2, 3))
            if form == "dict":
                return {"more": 1, "last_hidden_state": pooled}
            return [pooled, 1] if form == "list" else (pooled, 1)

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.inner, self.fc = form, self.Inner(), nn.Linear(3, 3)

    def forward(self, images: torch.Tensor) -> Any:
        inner = self.inner(images, self.form)
        logits = self.fc(inner["last_hidden_state"] if self.form == "dict" else inner[0])
        if self.form == "dict":
            return {"aux": None, "logits": logits}
        if self.form == "object":
            return SimpleNamespace(logits=logits)
        if self.form == "named tuple":
            return Outputs(None, logits)
        if self.form == "list":
            return [logits, images]
        return (logits, images) if self.form == "tuple" else {"scores": logits}


class Outputs(NamedTuple):
    aux: torch.Tensor | None
    logits: torch.Tensor


FORMS = ["dict", "list", "tuple", "object", "named tuple"]


@pytest.mark.parametrize("form", FORMS)
def test_logits_and_features_of_any_output(form: str) -> None:
    network, images = Answering(form).eval(), torch.randn(2, 3, 4, 4)
    output = FeatureTap(network, ["inner"])(images)
    torch.testing.assert_close(output.features["inner"], images.mean((2, 3)))
    torch.testing.assert_close(output.logits, network.fc(images.mean((2, 3))))
    assert FrozenTeacher(network)(images).logits.shape == (2, 3)
    assert for_data(network, InputSpec(8), image_size=4, mean=MEAN, std=STD)(images).shape == (2, 3)
    assert NetworkInspector(network, images[:1]).layers.head == "fc"


def test_an_output_without_logits_is_named() -> None:
    with pytest.raises(InputError, match="its output is a dict of scores, without logits"):
        FeatureTap(Answering("scores"))(torch.randn(2, 3, 4, 4))


@pytest.mark.parametrize("form", ["dict", "tuple"])
def test_exports_of_any_output_give_logits(form: str) -> None:
    facts = StudentFacts({}, {}, ("a", "b", "c"), MEAN, STD, 4, {})
    student = Student(Answering(form), facts)
    images = torch.randn(2, 3, 4, 4)
    program = torch.export.export(student, (images,)).module()
    torch.testing.assert_close(program(images), student(images))
    compiled = torch.compile(FeatureTap(student.network, ["inner"]).parts, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images)[0], student(images))


def test_normalization_changes_exactly() -> None:
    """What the network sees is what normalizing the pixels by its own constants would have given."""
    seen: list[torch.Tensor] = []

    class NetworkInspector(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images

    pixels = torch.rand(2, 3, 4, 4)

    def normalized(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    own = ((0.1, 0.2, 0.6), (0.5, 0.4, 0.3))
    network = for_data(NetworkInspector(), InputSpec(mean=own[0], std=own[1]), image_size=4, mean=MEAN, std=STD)
    network(normalized(MEAN, STD))
    torch.testing.assert_close(seen[0], normalized(*own))


def test_a_network_that_fits_is_left_as_it_is() -> None:
    network = create_model("resnet8", num_classes=10)
    for spec in (InputSpec(), InputSpec(32, MEAN, STD)):
        assert for_data(network, spec, image_size=32, mean=MEAN, std=STD) is network


def test_another_size_is_resized_and_features_keep_their_paths() -> None:
    adapted = for_data(create_model("resnet8", num_classes=10), InputSpec(64), image_size=32, mean=MEAN, std=STD)
    assert isinstance(adapted, AdaptedInput)
    output = FeatureTap(adapted, ["layer3"])(torch.randn(2, 3, 32, 32))
    assert output.features["layer3"].shape == (2, 64, 16, 16)


def test_timm() -> None:
    network = timm_model("resnet10t", num_classes=7)
    adapted = for_data(network, declared(network), image_size=32, mean=MEAN, std=STD)
    assert adapted is network  # without pretrained weights it takes the data as they are
    assert FeatureTap(adapted, ["layer4"])(torch.randn(2, 3, 32, 32)).logits.shape == (2, 7)


def test_a_transformer_of_timm_has_the_images_resized() -> None:
    network = timm_model("vit_tiny_patch16_224", num_classes=7, depth=1)
    adapted = for_data(network, declared(network), image_size=32, mean=MEAN, std=STD)
    assert adapted(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_torchvision() -> None:
    network = torchvision_model("mobilenet_v3_small", num_classes=7).eval()
    adapted = for_data(network, declared(network), image_size=32, mean=MEAN, std=STD)
    assert adapted is network
    assert adapted(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    transformer = torchvision_model("vit_b_16", num_classes=7)
    assert declared(transformer) == InputSpec(224)


@pytest.mark.parametrize(("pretrained", "chosen"), [(True, "V2"), ("DEFAULT", "V2"), ("IMAGENET1K_V1", "V1")])
def test_torchvision_weights_have_names(pretrained: bool | str, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    asked, state = [], models.get_model("resnet50").state_dict()

    def downloaded(self: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(self.name)
        return state

    monkeypatch.setattr(models.ResNet50_Weights, "get_state_dict", downloaded)
    network = torchvision_model("resnet50", 7, pretrained=pretrained)
    assert asked == [f"IMAGENET1K_{chosen}"]
    assert torch.equal(network.conv1.weight, state["conv1.weight"])
    assert network.fc.out_features == 7
    assert declared(network) == InputSpec(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_unknown_torchvision_weights_get_the_nearest() -> None:
    with pytest.raises(InputError, match=r"weights of torchvision's resnet50 'IMAGENET1K_V3': unknown; did you mean"):
        torchvision_model("resnet50", 7, pretrained="IMAGENET1K_V3")


def test_a_classifier_is_made_anew_only_for_another_class_count() -> None:
    network = create_model("MobileNetV2", num_classes=10)
    before = network.classifier[0].weight
    replace_classifier(network, 10)
    assert network.classifier[0].weight is before
    replace_classifier(network, 3)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 3)


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(InputError, match=r"timm network 'resnet10': unknown; the nearest: .*resnet10t"):
        timm_model("resnet10", num_classes=2)
    with pytest.raises(InputError, match=r"torchvision network 'resnet19': unknown; did you mean resnet1"):
        torchvision_model("resnet19", num_classes=2)
