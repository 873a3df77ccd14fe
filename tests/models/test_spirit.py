import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models import (
    DilatedResNet,
    InputSpec,
    NetworkInspector,
    SpiritStudent,
    create_model,
    spirit_front,
    spirit_student,
)
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.models.cut import front, rest
from stkd_lightning.models.input_adapter import declare, declared, for_data
from stkd_lightning.models.spirit import EqualMaps, MapAdapter
from stkd_lightning.utilities.errors import InputError
from tests.models.dense import Dense, UNet

CUT = {"student_cut": "body", "teacher_cut": "body"}
IMAGES = torch.randn(2, 3, 37, 50, generator=torch.Generator().manual_seed(0))


def networks(**options: int) -> tuple[Dense, Dense]:
    torch.manual_seed(0)
    return Dense(width=4, **options), Dense(width=12)


def test_the_logits_are_the_rests_of_the_adapted_front() -> None:
    student, teacher = networks()
    network = spirit_student(copy.deepcopy(student), teacher, **CUT).eval()
    with torch.no_grad():
        represented = F.conv2d(
            front(student, "body").eval()(IMAGES), network.adapter.projection.weight, network.adapter.projection.bias
        )
        expected = rest(teacher, "body").eval()(represented, IMAGES)
        assert torch.equal(network(IMAGES), expected)


@pytest.mark.parametrize(
    ("width", "stride", "kind"), [(12, 2, EqualMaps), (4, 2, MapAdapter), (12, 4, MapAdapter), (4, 1, MapAdapter)]
)
@pytest.mark.parametrize("size", [(37, 50), (64, 64), (1, 2)])
def test_the_adapter_gives_the_teachers_shape(width: int, stride: int, kind: type, size: tuple[int, int]) -> None:
    student, teacher = Dense(width, stride=stride), Dense(12)
    represents = spirit_front(student, teacher, **CUT).eval()
    images = torch.zeros(1, 3, *size)
    assert type(represents.adapter) is kind
    assert represents(images).shape == front(teacher, "body").eval()(images).shape


class Pooled(nn.Module):
    """Rounds the size of its maps down."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.MaxPool2d(4))
        self.scores = nn.Conv2d(6, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(self.scores(self.body(images)), images.shape[2:])


@pytest.mark.parametrize("side", [16, 17, 19])
def test_the_adapter_rounds_sizes_as_the_teacher(side: int) -> None:
    represents, images = spirit_front(Dense(), Pooled(), **CUT), torch.zeros(1, 3, side, side)
    assert represents(images).shape == front(Pooled(), "body")(images).shape


def test_the_resize_is_bilinear_before_the_convolution() -> None:
    adapter, features = MapAdapter(2, 3, stride=2), torch.randn(1, 2, 2, 3)
    resized = F.interpolate(features, (3, 4), mode="bilinear", align_corners=False)
    assert torch.equal(adapter(features, torch.zeros(1, 3, 5, 7)), adapter.projection(resized))


def test_the_adapter_counts() -> None:
    student, teacher = networks()
    network = spirit_student(student, teacher, **CUT)
    assert parameters(network) == parameters(front(student, "body")) + parameters(rest(teacher, "body")) + 4 * 12 + 12
    alone, image = flops(front(student, "body"), 32), torch.zeros(1, 12, 16, 16)
    assert flops(network, 32) == alone + 2 * 16 * 16 * 4 * 12 + flops_of_scores(image)


def flops_of_scores(features: Tensor) -> int:
    return 2 * features[0].numel() * 5


def test_a_compact_head_is_the_student() -> None:
    student, teacher = networks()
    whole = copy.deepcopy(student).eval()
    network = spirit_student(student, teacher, head="compact", **CUT).eval()
    assert torch.equal(network(IMAGES), whole(IMAGES))
    assert parameters(network) == parameters(whole)
    assert network.rate_factors == {}


def test_the_default_cut_is_the_last_stage() -> None:
    student, teacher = create_model("resnet8", 10), create_model("resnet8x4", 10)
    network = spirit_student(student, teacher)
    assert {"front.layer3", "rest.fc"} <= {name for name, _ in network.named_modules()}
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_layers_of_the_parts_are_found() -> None:
    student, teacher = create_model("resnet8", 10), create_model("resnet8x4", 10)
    layers = NetworkInspector(spirit_student(student, teacher), torch.zeros(1, 3, 32, 32)).layers
    assert layers.stages == ("front.layer1", "front.layer2", "front.layer3")
    assert (layers.pooled, layers.embedding, layers.head) == ("adapter", "rest.avgpool", "rest.fc")


def test_the_rest_is_a_copy_that_learns() -> None:
    student, teacher = networks()
    teacher.eval().requires_grad_(False)
    before = copy.deepcopy(teacher.state_dict())
    network = spirit_student(student, teacher, student_cut="stem", teacher_cut="stem")
    network(IMAGES).square().mean().backward()
    assert all(p.grad is not None for p in network.rest.parameters())
    torch.optim.SGD(network.parameters(), lr=1.0).step()
    assert bool((network.rest.body.get_submodule("1").running_mean != 0).any())  # BatchNorm is in training
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    assert not teacher.training


@pytest.mark.parametrize("head", ["teacher", "compact"])
def test_a_student_starts_from_trained_parts(head: str) -> None:
    torch.manual_seed(3)
    trained_front, trained_teacher = spirit_front(*networks(), **CUT), Dense(12)
    for value in trained_front.state_dict().values():
        value += 1
    data = {"image_size": 32, "mean": (0.4,) * 3, "std": (0.2,) * 3}
    network = spirit_student(*networks(), head=head, **CUT)
    before = copy.deepcopy(network.rest.state_dict())
    adapted = [for_data(n, InputSpec(mean=(0.5,) * 3), **data) for n in (trained_front, trained_teacher)]
    network.start_from(*adapted)
    state = network.state_dict()
    assert all(torch.equal(state[name], v) for name, v in trained_front.state_dict().items() if name in state)
    expected = rest(trained_teacher, "body").state_dict() if head == "teacher" else before
    torch.testing.assert_close(network.rest.state_dict(), expected, rtol=0, atol=0)


def test_the_input_of_the_student_stays() -> None:
    spec = InputSpec(mean=(0.1, 0.2, 0.3))
    student, teacher = networks()
    assert declared(spirit_student(declare(student, spec), teacher, **CUT)) == spec
    assert declared(spirit_front(declare(student, spec), teacher, **CUT)) == spec


def test_weights_on_the_meta_device_are_not_read() -> None:
    with torch.device("meta"):
        network = spirit_student(DilatedResNet(5, width=2), DilatedResNet(5, width=4))
    assert isinstance(network, SpiritStudent)
    expected = spirit_student(DilatedResNet(5, width=2), DilatedResNet(5, width=4)).state_dict()
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in expected.items()}


class Flat(Dense):
    """Pools its body to a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.body(self.stem(images))))


@pytest.mark.parametrize(
    ("student", "teacher", "options", "words"),
    [
        (Dense(), Dense(), {**CUT, "student_cut": "bodi"}, "cut of Dense 'bodi': unknown; did you mean body"),
        (Dense(), UNet(), {**CUT, "teacher_cut": "down2"}, "UNet: cannot be cut at 'down2'"),
        (Flat(), Dense(), {**CUT, "student_cut": "pool"}, "Flat: cannot be cut at 'pool', whose output (8,)"),
        (Dense(), Dense(), {**CUT, "head": "techer"}, "distilled.head 'techer': unknown; did you mean teacher"),
        (Dense(), Dense(), {**CUT, "rest_rate": 0}, "distilled.rest_rate=0: must be above 0"),
        (Dense(), Dense(stride=3), CUT, "Dense: its map of 22x22 positions for an image of 64x64 pixels cannot"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused(student: nn.Module, teacher: nn.Module, options: dict, words: str) -> None:
    with pytest.raises(InputError) as error:
        spirit_student(student, teacher, **options)
    assert words in str(error.value)
