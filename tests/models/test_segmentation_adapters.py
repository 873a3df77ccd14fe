"""Segmentation networks of other libraries: scores at the size of the image, weights, and mistakes."""

import copy
import pickle
import sys
from functools import partial
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stkd_lightning.models import FeatureTap, InputSpec, smp_model, torchvision_segmentation_model
from stkd_lightning.models.adapters.torchvision_segmentation import replace_classifiers
from stkd_lightning.models.cut import front, rest
from stkd_lightning.models.input_adapter import declared
from stkd_lightning.utilities.errors import InputError

IMAGES = torch.randn(2, 3, 61, 47, generator=torch.Generator().manual_seed(0))
ARCHITECTURES = [
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "UPerNet", "Segformer",
]  # fmt: skip


def seeded(make: Any, *arguments: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return make(*arguments, **options).eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_smp_scores_have_the_size_of_the_image(name: str) -> None:
    network = seeded(smp_model, name, 5, "mobilenet_v2")
    assert type(network).__name__ == name
    with torch.no_grad():
        assert network(IMAGES).shape == (2, 5, 61, 47)


def test_smp_scores_are_those_of_a_padded_image() -> None:
    """Zeros at the right and at the bottom, to a multiple of the encoder's stride."""
    import segmentation_models_pytorch as smp

    network = seeded(smp_model, "FPN", 5, "resnet18")
    plain = seeded(smp.FPN, encoder_name="resnet18", encoder_weights=None, classes=5)
    assert plain.state_dict().keys() == network.state_dict().keys()
    padded = torch.zeros(2, 3, 64, 64)
    padded[..., :61, :47] = IMAGES
    with torch.no_grad():
        assert torch.equal(network(IMAGES), plain(padded)[..., :61, :47])
        assert torch.equal(network(padded), plain(padded))


@pytest.mark.parametrize(("name", "stride"), [("PSPNet", 8), ("DeepLabV3Plus", 16), ("Unet", 32)])
def test_smp_pads_to_the_stride_of_the_encoder(name: str, stride: int) -> None:
    network = seeded(smp_model, name, 2, "mobilenet_v2")
    seen: list[Tensor] = []
    network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(IMAGES)
    assert seen[0].shape[2:] == (-(-61 // stride) * stride, -(-47 // stride) * stride)


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "mit_b0"])
@pytest.mark.parametrize("options", [{}, {"encoder_depth": 4, "upsampling": 16}], ids=["depth 3", "depth 4"])
def test_smp_trains_only_stages_that_are_read(encoder: str, options: dict[str, Any]) -> None:
    """DDP stops at a trainable parameter without a gradient."""
    network = seeded(smp_model, "PSPNet", 5, encoder, **options)
    network(torch.zeros(1, 3, 64, 64)).sum().backward()
    unread = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert unread == []
    assert any(p.requires_grad for p in network.encoder.parameters())


def test_smp_pspnet_dilates_all_stages_as_in_the_paper() -> None:
    network = seeded(smp_model, "PSPNet", 5, "resnet18", encoder_depth=5, output_stride=8)
    with torch.no_grad():
        assert network(IMAGES).shape == (2, 5, 61, 47)
        assert network.encoder(torch.zeros(1, 3, 64, 64))[-1].shape == (1, 512, 8, 8)


def test_smp_takes_an_encoder_of_timm_and_options() -> None:
    network = seeded(smp_model, "Unet", 5, "tu-resnet10t", encoder_depth=3, decoder_channels=(16, 8, 4))
    with torch.no_grad():
        assert network(IMAGES).shape == (2, 5, 61, 47)
    assert network.encoder.output_stride == 8


def test_smp_pretrained_encoder_declares_its_normalization(monkeypatch: pytest.MonkeyPatch) -> None:
    import segmentation_models_pytorch as smp

    made: list[dict[str, Any]] = []
    plain: Any = smp.FPN

    class FPN(plain):
        def __init__(self, encoder_weights: str | None, **options: Any) -> None:
            made.append({"encoder_weights": encoder_weights, **options})
            super().__init__(encoder_weights=None, **options)

    preset = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    monkeypatch.setattr(smp, "FPN", FPN)
    monkeypatch.setattr(smp.encoders, "get_preprocessing_params", lambda encoder, weights: preset)
    network = smp_model("FPN", 5, "resnet18", pretrained=True, input_size=64)
    assert made == [{"encoder_weights": "imagenet", "encoder_name": "resnet18", "classes": 5}]
    assert declared(network) == InputSpec(64, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    smp_model("FPN", 5, "resnet18", pretrained="ssl")
    assert made[1]["encoder_weights"] == "ssl"


def test_smp_mistakes_get_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"network 'DeepLabV3\+': unknown; did you mean DeepLabV3"):
        smp_model("DeepLabV3+", 2)
    with pytest.raises(InputError, match=r"encoder 'resnet17': unknown; the nearest: resnet18"):
        smp_model("Unet", 2, "resnet17")
    with pytest.raises(InputError, match=r"the encoder resnet18 'sls': unknown; .* all: imagenet, ssl, swsl"):
        smp_model("Unet", 2, "resnet18", pretrained="sls")
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(InputError, match=r"not installed: pip install 'stkd-lightning\[segmentation\]'"):
        smp_model("Unet", 2)


@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_torchvision_returns_the_main_scores(name: str) -> None:
    from torchvision import models

    network = seeded(torchvision_segmentation_model, name, 5)
    plain = seeded(models.get_model, name, weights=None, weights_backbone=None, num_classes=5)
    with torch.no_grad():
        assert torch.equal(network(IMAGES), plain(IMAGES)["out"])


def test_torchvision_keeps_the_auxiliary_head_if_asked() -> None:
    network = seeded(torchvision_segmentation_model, "deeplabv3_mobilenet_v3_large", 5, auxiliary=True)
    with torch.no_grad():
        output = FeatureTap(network, ["aux_classifier"])(IMAGES)
    assert output.logits.shape == (2, 5, 61, 47)
    assert output.features["aux_classifier"].shape[:2] == (2, 5)
    without = torchvision_segmentation_model("deeplabv3_mobilenet_v3_large", 5)
    assert not any(path.startswith("aux") for path, _ in without.named_modules())


LRASPP = {"classifier.low_classifier.weight", "classifier.high_classifier.weight"}


@pytest.mark.parametrize(
    ("name", "auxiliary", "replaced"),
    [
        ("fcn_resnet50", True, {"classifier.4.weight", "aux_classifier.4.weight"}),
        ("fcn_resnet50", False, {"classifier.4.weight"}),
        ("lraspp_mobilenet_v3_large", False, LRASPP),
    ],
)
def test_torchvision_pretrained_has_new_last_convolutions(
    name: str, auxiliary: bool, replaced: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    heads = {"aux_loss": True} if name.startswith("fcn") else {}
    state = models.get_model(name, weights=None, weights_backbone=None, num_classes=21, **heads).state_dict()
    monkeypatch.setattr(type(weights), "get_state_dict", lambda self, *arguments, **options: state)
    network = torchvision_segmentation_model(name, 5, pretrained=True, auxiliary=auxiliary).eval()
    with torch.no_grad():
        assert network(IMAGES).shape == (2, 5, 61, 47)
    assert declared(network) == InputSpec(None, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    own = network.state_dict()
    assert {key for key, value in own.items() if value.ndim == 4 and value.shape != state[key].shape} == replaced
    assert any(key.startswith("aux_classifier") for key in own) == auxiliary
    same = torchvision_segmentation_model(name, 21, pretrained=True, auxiliary=auxiliary)
    assert all(torch.equal(value, state[key]) for key, value in same.state_dict().items())


def test_torchvision_mistakes_get_the_nearest() -> None:
    with pytest.raises(InputError, match=r"segmentation network 'fcn_resnet5': unknown; did you mean fcn_resnet50"):
        torchvision_segmentation_model("fcn_resnet5", 2)
    with pytest.raises(InputError, match=r"'lraspp_mobilenet_v3_large': has no auxiliary head; set auxiliary=false"):
        torchvision_segmentation_model("lraspp_mobilenet_v3_large", 2, auxiliary=True)


def test_classifiers_stay_for_the_same_classes() -> None:
    network = torchvision_segmentation_model("lraspp_mobilenet_v3_large", 5)
    before = network.classifier.low_classifier
    replace_classifiers(network, 5, 5)
    assert network.classifier.low_classifier is before


@pytest.mark.parametrize(
    ("make", "name", "path"),
    [
        (partial(smp_model, encoder="resnet18"), "PSPNet", "decoder.psp"),
        (partial(smp_model, encoder="mobilenet_v2"), "FPN", "decoder"),
        (torchvision_segmentation_model, "deeplabv3_mobilenet_v3_large", "backbone.16"),
    ],
    ids=["PSPNet", "FPN", "torchvision"],
)
def test_networks_can_be_cut(make: Any, name: str, path: str) -> None:
    network = seeded(make, name, 5)
    with torch.no_grad():
        features = front(network, path)(IMAGES)
        torch.testing.assert_close(rest(network, path)(features, IMAGES), network(IMAGES))


AT_RUN_TIME = "prefer_deferred_runtime_asserts_over_guards"  # the sizes of padded maps are compared


@pytest.mark.skipif(AT_RUN_TIME not in signature(torch.export.export).parameters, reason="torch is too old")
def test_smp_export_has_dynamic_sides() -> None:
    network = seeded(smp_model, "FPN", 5, "resnet18")
    sides = {i: torch.export.Dim(name, min=33, max=1024) for i, name in ((2, "height"), (3, "width"))}
    program = torch.export.export(network, (IMAGES,), dynamic_shapes=(sides,), **{AT_RUN_TIME: True})
    images = torch.randn(2, 3, 50, 97)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), network(images))


@pytest.mark.parametrize(
    ("make", "name"), [(smp_model, "FPN"), (torchvision_segmentation_model, "lraspp_mobilenet_v3_large")]
)
def test_copies_compute_the_same(make: Any, name: str) -> None:
    network = seeded(make, name, 5)
    for same in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert type(same) is type(network)
        with torch.no_grad():
            assert torch.equal(same(IMAGES), network(IMAGES))
