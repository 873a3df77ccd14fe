import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import segmentation

from stkd_lightning.models import AdaptedInput, InputSpec, create_model, smp_model
from stkd_lightning.models.cut import front, rest
from stkd_lightning.models.memory_format import channels_last
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import InputError
from tests.models.dense import Dense, UNet

IMAGES = torch.randn(2, 3, 37, 50, generator=torch.Generator().manual_seed(0))


def fcn() -> nn.Module:
    return segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=5)


def deeplab() -> nn.Module:
    return segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)


class Chooser(nn.Module):
    """Gets the maps of all stages, and reads the last."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Conv2d(6, 5, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.scores(maps[-1])


class Stages(nn.Module):
    """Hands the maps of all stages to its decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.decoder = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), Chooser()

    def forward(self, images: Tensor) -> Tensor:
        maps = [self.first(images)]
        return self.decoder([*maps, self.last(maps[-1])])


CUTS: list[tuple[Callable[[], nn.Module], str]] = [
    (Dense, "body"),
    (Dense, "stem"),
    (Dense, "body.1"),
    (lambda: create_model("resnet8", num_classes=5), "layer2"),
    (lambda: create_model("MobileNetV2", num_classes=5), "blocks.2"),
    (fcn, "backbone.layer4"),
    (fcn, "backbone.layer3"),
    (deeplab, "backbone.16"),
    (Stages, "last"),
]
# Their encoders have modules that do not run.
PADDED: list[tuple[Callable[[], nn.Module], str]] = [
    (lambda: smp_model("PSPNet", 5, encoder="resnet18"), "encoder.layer2"),
    (lambda: smp_model("DeepLabV3", 5, encoder="resnet18"), "encoder.layer4"),
]


def logits(output: Tensor | dict[str, Tensor]) -> Tensor:
    return output["out"] if isinstance(output, dict) else output


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("make", "path"), CUTS + PADDED)
def test_parts_compute_what_the_network_does(make: Callable[[], nn.Module], path: str, training: bool) -> None:
    """In training the statistics of BatchNorm and the draws of Dropout are those of the network too."""
    torch.manual_seed(0)
    network = make().train(training)
    whole = copy.deepcopy(network)
    first, last = front(network, path), rest(network, path)
    assert not any(part.training != training for part in (first, last))
    torch.manual_seed(1)
    expected = logits(whole(IMAGES))
    torch.manual_seed(1)
    assert torch.equal(logits(last(first(IMAGES), IMAGES)), expected)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("make", "path"), CUTS)
def test_parts_divide_the_parameters_by_their_names(make: Callable[[], nn.Module], path: str) -> None:
    network = make()
    first, last = (set(part.state_dict()) for part in (front(network, path), rest(network, path)))
    assert not first & last
    assert first | last == set(network.state_dict())


def test_modes_reach_the_parts() -> None:
    network = Dense()
    first = front(network, "body").eval()
    assert torch.equal(first(IMAGES), first(IMAGES))
    first.train()
    assert not torch.equal(first(IMAGES), first(IMAGES))  # Dropout


def test_a_part_is_copied_saved_and_compiled() -> None:
    network = Dense().eval()
    first, last = front(network, "body"), rest(network, "body")
    copied = copy.deepcopy(first)
    assert not any(a is b for a, b in zip(copied.parameters(), first.parameters(), strict=True))
    assert torch.equal(copied(IMAGES), first(IMAGES))
    other = front(Dense().eval(), "body")
    other.load_state_dict(first.state_dict())
    assert torch.equal(other(IMAGES), first(IMAGES))
    generated = torch.compile(nn.Sequential(first, nn.ReLU()), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(generated(IMAGES), first(IMAGES).relu())
    last_generated = torch.compile(last, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(last_generated(first(IMAGES), IMAGES), network(IMAGES))
    channels_last(first)
    torch.testing.assert_close(first(IMAGES.to(memory_format=torch.channels_last)), copied(IMAGES))


def test_a_rest_reads_only_the_size_of_the_images() -> None:
    network = Dense().eval()
    first, last = front(network, "body"), rest(network, "body")
    assert torch.equal(last(first(IMAGES), torch.full_like(IMAGES, torch.nan)), network(IMAGES))
    assert last(first(IMAGES), torch.empty(2, 3, 11, 13)).shape == (2, 5, 11, 13)


def test_a_front_is_frozen_as_a_teacher() -> None:
    network = Dense().eval()
    first = front(network, "body")
    with torch.no_grad():
        expected = first(IMAGES)
    output = FrozenTeacher(first)(IMAGES)
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-5)
    assert not output.logits.requires_grad


def test_a_front_begins_with_the_adaptation_of_its_input() -> None:
    inner = Dense().eval()
    network = AdaptedInput(inner, InputSpec(mean=(0.5,) * 3, std=(0.2,) * 3), (0.4,) * 3, (0.3,) * 3).eval()
    first, last = front(network, "body"), rest(network, "body")
    assert isinstance(first, AdaptedInput)
    assert next(first.parameters()) is next(network.parameters())
    assert torch.equal(last(first(IMAGES), IMAGES), network(IMAGES))
    assert network.network is inner


class Twice(Dense):
    """Runs its body twice."""

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(self.body(self.body(self.stem(images))))


class ByMode(Dense):
    """Drops values by a function, which a trace would fix."""

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(F.dropout(self.body(self.stem(images)), training=self.training))


class ByValue(Dense):
    """Decides by a value."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(self.stem(images))
        return self.scores(features if features.sum() > 0 else -features)


class InPlace(Dense):
    """Changes a value in place, and drops the result.

    Args:
        change: of the value.
    """

    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(self.stem(images))
        self.change(features)
        return self.scores(features)


IN_PLACE: dict[str, Callable[[Tensor], object]] = {
    "mul_ after 'body'": lambda features: features.mul_(2),
    "relu_ after 'body'": torch.relu_,
    "relu after 'body'": lambda features: F.relu(features, inplace=True),
    "'change'": nn.ReLU(inplace=True),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_a_change_in_place_that_no_trace_shows_is_refused(name: str) -> None:
    words = f"InPlace: cannot be cut at 'body': {name} changes a value in place"
    with pytest.raises(InputError, match=words):
        rest(InPlace(IN_PLACE[name]), "body")


class Aside(Dense):
    """Computes a map that it does not use."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        self.body(features)
        return self.scores(features)


@pytest.mark.parametrize(
    ("network", "path", "words"),
    [
        (Dense(), "bodi", "cut of Dense 'bodi': unknown; did you mean body"),
        (
            UNet(),
            "down2",
            "UNet: cannot be cut at 'down2': cat after 'up' also reads relu after 'down1', a connection around the cut",
        ),
        (Twice(), "body", "Twice: cannot be cut at 'body': the module runs 2 times"),
        (ByMode(), "body", "ByMode: cannot be cut at 'body': its forward computes something else in training"),
        (ByValue(), "body", "ByValue: cannot be cut at 'body': symbolically traced variables cannot be used as inputs"),
        (Aside(), "body", "Aside: cannot be cut at 'body': the logits do not depend on its output"),
    ],
)
def test_a_network_that_cannot_be_cut_is_refused(network: nn.Module, path: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        rest(network, path)
    assert words in str(error.value)
    assert network.training
