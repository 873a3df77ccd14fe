import copy
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.models import (
    AdaptedInput,
    DilatedResNet,
    FeatureTap,
    InputSpec,
    NetworkInspector,
    create_model,
    reuse_classifier,
)
from stkd_lightning.models.build import build_network
from stkd_lightning.models.classifier_reuse import Projector, head_of
from stkd_lightning.models.cost import parameters
from stkd_lightning.models.input_adapter import declare
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import conf_dir

PAIRS = [
    ("resnet8", "resnet8x4"),
    ("MobileNetV2", "vgg8"),
    ("vgg8", "wrn_16_2"),
    ("ShuffleV2", "resnet14"),
    ("wrn_16_1", "ShuffleV1"),
]


class Small(nn.Module):
    """A user's own network, which declares no layers."""

    def __init__(self, width: int, head: nn.Module | None = None) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = head or nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.trunk(images)).flatten(1))


class Fixed(Small):
    """Takes images of 48 pixels only."""

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (48, 48):
            raise ValueError("takes images of 48 pixels")
        return super().forward(images)


def reusing(student: str, teacher: str, classes: int = 10) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    networks = [create_model(name, num_classes=classes).eval() for name in (student, teacher)]
    return reuse_classifier(networks[0], networks[1]).eval(), networks[1]


def head(network: nn.Module) -> nn.Linear:
    return head_of(NetworkInspector(network, torch.zeros(1, 3, 32, 32)))


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_logits_are_the_teachers_of_the_pooled_projection(student: str, teacher: str) -> None:
    network, other = reusing(student, teacher)
    (path,) = (path for path, module in network.named_modules() if isinstance(module, Projector))
    with torch.no_grad():
        output = FeatureTap(network, [path])(torch.randn(2, 3, 32, 32))
    weight, bias = head(other).weight.tolist(), head(other).bias.tolist()
    for maps, logits in zip(output.features[path], output.logits, strict=True):
        means = [sum(channel.flatten().tolist()) / channel.numel() for channel in maps]
        expected = [
            sum(w * m for w, m in zip(row, means, strict=True)) + b for row, b in zip(weight, bias, strict=True)
        ]
        assert logits.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_the_projection_is_where_probes_look_for_it(student: str, teacher: str) -> None:
    network, other = reusing(student, teacher)
    own, its = (NetworkInspector(n, torch.zeros(1, 3, 32, 32)) for n in (network, other))
    (mine,), (pooled,) = own.shapes([own.layers.pooled]), its.shapes([its.layers.pooled])
    assert mine[1] == pooled[1]
    assert isinstance(network.get_submodule(own.layers.pooled), Projector)


def test_parameters_are_counted() -> None:
    """resnet8, of 10 classes, without its classifier of 64 inputs, with a projector 64, 128, 128, 256 and another."""
    network, _ = reusing("resnet8", "resnet8x4")
    projector = 64 * 128 + 2 * 128 + 9 * 128 * 128 + 2 * 128 + 128 * 256 + 2 * 256
    assert parameters(network) == 78_042 - (64 * 10 + 10) + projector + (256 * 10 + 10)


@pytest.mark.parametrize(
    ("student", "teacher", "width_in", "count"),
    [
        ("ShuffleV2", "resnet32x4", 464, 240_640),
        ("MobileNetV2", "vgg13", 160, 763_904),
        ("MobileNetV2", "ResNet50", 160, 11_706_368),
    ],
)
def test_projectors_replace_a_last_pointwise_convolution(student: str, teacher: str, width_in: int, count: int) -> None:
    """The authors' numbers of parameters: 241k, 764k and 11.7M."""
    plain: Any = create_model(student, num_classes=100)
    network, other = reusing(student, teacher, classes=100)
    (projector,) = (module for module in network.modules() if isinstance(module, Projector))
    assert (projector[0].in_channels, parameters(projector)) == (width_in, count)
    removed = [plain.get_submodule(path) for path in (*plain.feature_layers.after_stages, plain.feature_layers.head)]
    assert parameters(network) == parameters(plain) - sum(map(parameters, removed)) + count + parameters(head(other))
    assert not any(name.startswith(("conv2", "bn2")) for name, _ in network.named_parameters())
    with pytest.raises(InputError, match="already has a teacher's classifier"):
        reuse_classifier(network, other)


@pytest.mark.parametrize("name", ["ShuffleV2", "MobileNetV2"])
def test_a_projector_reads_the_last_stage(name: str) -> None:
    network: Any = reusing(name, "resnet8")[0]
    with torch.no_grad():
        output = FeatureTap(network, [network.feature_layers.stages[-1], "avgpool.0:input"])(torch.randn(2, 3, 32, 32))
    stage, read = output.features.values()
    torch.testing.assert_close(read, stage, rtol=0, atol=0)


def test_a_network_runs_at_the_input_size_that_it_declares() -> None:
    student = declare(Fixed(4), InputSpec(size=48))
    assert reuse_classifier(student, Small(6), image_size=16) is student
    with pytest.raises(InputError, match="Fixed: cannot be run on an image of shape"):
        reuse_classifier(Fixed(4), Small(6), image_size=16)


def test_image_size_is_that_of_the_data_unless_it_is_set() -> None:
    parts = {name: {"_target_": f"{__name__}.Fixed", "width": 4} for name in ("student", "teacher")}
    node = {"_target_": "stkd_lightning.models.reuse_classifier", **parts, "image_size": None}
    data = StudentFacts({}, {}, tuple("0123456789"), (0.5,) * 3, (0.2,) * 3, 48, about={})
    assert isinstance(build_network(OmegaConf.create(node), data).pool[0], Projector)
    with pytest.raises(InputError, match=r"cannot be run on an image of shape \(1, 3, 16, 16\)"):
        build_network(OmegaConf.create({**node, "image_size": 16}), data)


@pytest.mark.parametrize(
    "pair", sorted(path.stem for path in (conf_dir() / "experiment" / "cifar100").glob("*_*.yaml"))
)
def test_students_of_cifar100_pairs_are_built(pair: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", [f"experiment=cifar100/{pair}", "loss=simkd"])
    config.num_classes = 100
    data = StudentFacts({}, {}, tuple(map(str, range(100))), (0.5,) * 3, (0.2,) * 3, 32, about={})
    image, loss = torch.zeros(1, 3, 32, 32), instantiate(config.loss)
    student, teacher = build_network(config.distilled, data), build_network(config.teacher.network, data)
    loss.prepare(NetworkInspector(student, image), NetworkInspector(teacher, image))
    projector = student.get_submodule(student.feature_layers.pooled)
    assert isinstance(projector, Projector)
    assert projector[6].out_channels == head(teacher).in_features


@pytest.mark.parametrize(("reduction", "inner"), [(1, 64), (2, 32), (64, 1), (1000, 1)])
def test_the_projectors_inner_channels_are_the_teachers_reduced(reduction: int, inner: int) -> None:
    network = reuse_classifier(Small(4), Small(64), reduction=reduction)
    first, _, _, middle, *_ = network.pool[0]
    assert (first.out_channels, middle.in_channels, middle.out_channels) == (inner, inner, inner)


def test_only_the_classifier_is_frozen() -> None:
    network, other = reusing("resnet8", "resnet8x4")
    assert {n for n, p in network.named_parameters() if not p.requires_grad} == {"fc.weight", "fc.bias"}
    assert all(p.requires_grad for p in other.parameters())


def test_the_teacher_stays_as_it_is() -> None:
    teacher = create_model("resnet8x4", num_classes=10)
    before = copy.deepcopy(teacher.state_dict())
    network = reuse_classifier(create_model("resnet8", num_classes=10), teacher)
    with torch.no_grad():
        head(network).weight.zero_()
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)


def test_the_student_stays_of_its_class() -> None:
    student = create_model("resnet8", num_classes=10)
    assert reuse_classifier(student, create_model("resnet14", num_classes=10)) is student


def test_a_network_of_its_class_is_not_changed_with_it() -> None:
    reusing("resnet8", "resnet8x4")
    assert create_model("resnet8", num_classes=10).feature_layers.pooled == "layer3"


def test_a_copy_is_a_student_of_its_own() -> None:
    network, _ = reusing("resnet8", "resnet8x4")
    copied, images = copy.deepcopy(network), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(copied(images), network(images), rtol=0, atol=0)
    assert copied.feature_layers == network.feature_layers
    assert not any(a is b for a, b in zip(copied.parameters(), network.parameters(), strict=True))


def test_weights_go_where_another_teacher_was_reused() -> None:
    network, _ = reusing("resnet8", "resnet8x4")
    torch.manual_seed(1)
    other = reuse_classifier(create_model("resnet8", num_classes=10), create_model("resnet8x4", num_classes=10)).eval()
    other.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(other(images), network(images), rtol=0, atol=0)


def test_networks_that_declare_nothing_and_other_images() -> None:
    network = reuse_classifier(Small(4), Small(6), image_size=48)
    assert network(torch.randn(2, 3, 48, 48)).shape == (2, 10)
    assert NetworkInspector(network, torch.zeros(1, 3, 48, 48)).layers.pooled == "pool.0"


def test_a_network_behind_its_input_stays_there() -> None:
    adapted = AdaptedInput(create_model("resnet8", num_classes=10), InputSpec(size=16), (0.5,) * 3, (0.25,) * 3)
    assert reuse_classifier(adapted, create_model("resnet8x4", num_classes=10)) is adapted
    assert isinstance(adapted.network.avgpool[0], Projector)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="student.reduction=0: must be a whole number of at least 1"):
        reuse_classifier(Small(4), Small(6), reduction=0)
    with pytest.raises(InputError, match="distilled.image_size=4096: must be at most 1024"):
        reuse_classifier(Small(4), Small(6), image_size=4096)
    words = "Sequential: its linear classifier does not read the mean of a feature map, as SimKD needs it"
    with pytest.raises(InputError, match=words):
        reuse_classifier(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), Small(6))
    hidden = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 10))
    with pytest.raises(InputError, match="Small: its linear classifier does not read the mean"):
        reuse_classifier(Small(4, hidden), Small(6))
    with pytest.raises(InputError, match="DilatedResNet: its linear classifier does not read the mean"):
        reuse_classifier(DilatedResNet(10, width=2), Small(6), image_size=64)
    with pytest.raises(InputError, match="ResNet: already has a teacher's classifier"):
        reuse_classifier(reusing("resnet8", "resnet8x4")[0], Small(6))


def test_a_student_may_call_a_part_of_it_layers() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
            self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 10)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.pool(self.layers(images)).flatten(1))

    assert reuse_classifier(Own(), Small(6))(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_a_teacher_that_pools_no_map_is_refused() -> None:
    class Tokens(nn.Module):
        """Its only map is that of the patches, far from the classifier; its width happens to be the same."""

        def __init__(self) -> None:
            super().__init__()
            self.patches, self.mix = nn.Conv2d(3, 8, 8, stride=8), nn.Linear(8, 8)
            self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 10)

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.patches(images).flatten(2).transpose(1, 2)
            return self.head(self.norm(self.mix(tokens).mean(1)))

    with pytest.raises(InputError):
        reuse_classifier(Small(4), Tokens())


def test_a_student_that_is_refused_stays_as_it_is() -> None:
    student = Small(4, nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 10)))
    with pytest.raises(InputError):
        reuse_classifier(student, Small(6))
    assert student(torch.randn(2, 3, 32, 32)).shape == (2, 10)
