import pytest
import torch
import torchvision
from torch import Tensor, nn

from stkd_lightning.models import (
    AdaptedInput,
    FeatureTap,
    InputSpec,
    Layers,
    NetworkInspector,
    create_model,
    list_models,
    torchvision_model,
)
from stkd_lightning.tasks.types import ModelOutput
from stkd_lightning.utilities.errors import InputError

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def image_of(size: int) -> Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(size))


def classifier(*before: nn.Module) -> nn.Sequential:
    """Convolutions of two resolutions, what stands between pooling and classifier, and the classifier."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        *before,
        nn.Linear(6, 5),
    )


def read(network: nn.Module, layers: Layers, image: Tensor) -> ModelOutput:
    with torch.no_grad():
        return FeatureTap(network.eval(), (*layers.stages, layers.pooled, layers.embedding))(image)


def check_stages(output: ModelOutput, layers: Layers) -> None:
    shapes = [output.features[path].shape for path in layers.stages]
    assert all(len(shape) == 4 for shape in shapes)
    sides = [tuple(shape[2:]) for shape in shapes]
    assert sides == sorted(sides, reverse=True)


def check_pooled(output: ModelOutput, layers: Layers) -> None:
    """The mean over the map's positions is what the pooling gives."""
    embedding = output.features[layers.embedding].flatten(1)
    torch.testing.assert_close(output.features[layers.pooled].mean((2, 3)), embedding)


def check_head(network: nn.Module, output: ModelOutput, layers: Layers) -> None:
    """The classifier makes the logits of the embedding."""
    with torch.no_grad():
        logits = network.get_submodule(layers.head)(output.features[layers.embedding].flatten(1))
    torch.testing.assert_close(logits, output.logits)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("name", list_models())
def test_layers_of_the_zoo(name: str, size: int) -> None:
    network = create_model(name, num_classes=7)
    layers = NetworkInspector(network, image_of(size)).layers
    output = read(network, layers, image_of(size))
    check_stages(output, layers)
    check_pooled(output, layers)
    check_head(network, output, layers)


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", Layers(("relu", "layer1", "layer2", "layer3", "layer4"), "layer4", "avgpool", "fc")),
        (
            "regnet_y_400mf",
            Layers(
                ("stem", *(f"trunk_output.block{i}" for i in (1, 2, 3)), "trunk_output"),
                "trunk_output",
                "avgpool",
                "fc",
            ),
        ),
    ],
)
def test_layers_are_seen_in_other_networks(name: str, layers: Layers, size: int) -> None:
    network = torchvision_model(name, num_classes=7)
    assert NetworkInspector(network, image_of(size)).layers == layers
    output = read(network, layers, image_of(size))
    check_stages(output, layers)
    check_pooled(output, layers)
    check_head(network, output, layers)


def test_a_hidden_layer_before_the_classifier_is_the_embedding() -> None:
    network = torchvision_model("mobilenet_v3_small", num_classes=7)
    layers = NetworkInspector(network, image_of(64)).layers
    assert layers.stages == ("features.0", "features.1", "features.3", "features.8", "features")
    assert (layers.pooled, layers.head) == ("features", "classifier.3")
    output = read(network, layers, image_of(64))
    check_stages(output, layers)
    check_head(network, output, layers)


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf"])
def test_layers_are_seen_where_the_last_stage_has_one_position(name: str) -> None:
    network = torchvision_model(name, num_classes=7)
    layers = NetworkInspector(network, image_of(32)).layers
    check_pooled(read(network, layers, image_of(32)), layers)


def test_the_embedding_is_not_what_dropout_leaves_of_it() -> None:
    assert NetworkInspector(classifier(nn.Dropout()), IMAGE).layers.embedding == "4"


def test_layers_of_a_plain_sequence() -> None:
    assert NetworkInspector(classifier(), IMAGE).layers == Layers(("1", "2"), "2", "4", "5")


def test_a_network_without_a_linear_classifier_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    words = "Sequential: no linear classifier was found; set student_layers and teacher_layers of the loss"
    with pytest.raises(InputError, match=words):
        NetworkInspector(network, IMAGE).layers  # noqa: B018


def test_networks_without_maps_have_no_stages() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    assert NetworkInspector(flat, IMAGE).layers == Layers((), "", "0", "1")
    patches = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 5))
    assert NetworkInspector(patches, IMAGE).layers == Layers((), "", "1", "2")


@pytest.mark.parametrize("name", ["densenet121", "shufflenet_v2_x0_5", "mobilenet_v2", "vit_b_16"])
def test_what_is_pooled_by_a_function_is_read_where_it_goes(name: str) -> None:
    network = getattr(torchvision.models, name)(num_classes=7)
    probe = NetworkInspector(network, image_of(224))
    (shape,) = probe.shapes([probe.layers.embedding])
    assert shape == (1, network.get_submodule(probe.layers.head).in_features)
    assert probe.layers.embedding.endswith(":input")
    assert (probe.layers.stages == ()) == (name == "vit_b_16")


def test_shapes_are_those_of_a_batch_of_one() -> None:
    probe = NetworkInspector(create_model("resnet8", num_classes=10), IMAGE)
    assert probe.shapes(["layer2", "avgpool", "fc"]) == ((1, 32, 4, 4), (1, 64, 1, 1), (1, 10))
    assert probe.shapes([]) == ()


def test_a_network_of_another_precision_is_run_in_its_own() -> None:
    assert NetworkInspector(create_model("resnet8", num_classes=10).double(), IMAGE).shapes(["fc"]) == ((1, 10),)


def test_an_unknown_path_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r"feature of ResNet 'layer4': unknown; did you mean layer\d"):
        NetworkInspector(create_model("resnet8", num_classes=10), IMAGE).shapes(["layer4"])


class Unusual(nn.Module):
    """A network with a module that gives no tensor, and one that is never run."""

    class Named(nn.Module):
        def forward(self, features: Tensor) -> dict[str, Tensor]:
            return {"features": features}

    def __init__(self) -> None:
        super().__init__()
        self.named, self.idle, self.linear = self.Named(), nn.Identity(), nn.Linear(3, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.named(images.mean((2, 3)))["features"])


@pytest.mark.parametrize("path", ["named", "idle"])
def test_a_path_that_gives_no_tensor_is_refused(path: str) -> None:
    with pytest.raises(InputError, match=f"'{path}'"):
        NetworkInspector(Unusual(), IMAGE).shapes([path])


def test_a_network_that_takes_no_such_image_is_refused() -> None:
    words = (
        r"Sequential: cannot be run on an image of shape \(1, 3, 8, 8\) to see the shapes of its features \(.+\); "
        "pass DistillationModule an example=images"
    )
    for probe in (
        NetworkInspector(nn.Sequential(nn.Conv2d(4, 2, 3)), IMAGE),
        NetworkInspector(nn.Sequential(nn.Conv2d(3, 2, 9)), IMAGE),
    ):
        with pytest.raises(InputError, match=words):
            probe.shapes(["0"])
        with pytest.raises(InputError, match=words):
            probe.layers  # noqa: B018


@pytest.mark.parametrize("size", [8, 1], ids=["a run that ends", "a run that fails"])
def test_a_probe_leaves_no_trace(size: int) -> None:
    """Modes (one part is frozen), BatchNorm's statistics, gradients, hooks and random numbers are as they were."""
    network = classifier(nn.Dropout(), nn.Unflatten(1, (6,)), nn.Sequential(nn.BatchNorm1d(6)))
    network[0] = nn.Conv2d(3, 4, 3)
    network.train()[1].eval()
    modes = {path: module.training for path, module in network.named_modules()}
    state = {name: value.clone() for name, value in network.state_dict().items()}
    numbers = torch.get_rng_state()
    probe = NetworkInspector(network, image_of(size))
    try:
        probe.shapes(["2"])
        assert probe.layers.head == "8"
    except InputError:
        assert size == 1
    assert {path: module.training for path, module in network.named_modules()} == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(torch.get_rng_state(), numbers)


@pytest.mark.parametrize("make", [lambda: create_model("resnet8", num_classes=5), classifier], ids=["zoo", "other"])
def test_layers_behind_an_adapted_input_are_the_inner_network(make: type[nn.Module]) -> None:
    inner = make()
    adapted = AdaptedInput(inner, InputSpec(size=16, mean=(0.5, 0.5, 0.5)), (0.4, 0.4, 0.4), (0.2, 0.2, 0.2))
    probe = NetworkInspector(adapted, IMAGE)
    assert probe.inner is inner
    assert probe.name == type(inner).__name__
    assert probe.layers == NetworkInspector(inner, image_of(16)).layers
    assert probe.shapes(probe.layers.stages) == NetworkInspector(inner, image_of(16)).shapes(probe.layers.stages)


def test_a_module_that_is_run_several_times_is_no_stage() -> None:
    """Only its last output could be read, which is another stage's."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
            self.relu, self.pool, self.head = nn.ReLU(), nn.MaxPool2d(2), nn.Linear(8, 10)

        def forward(self, images: Tensor) -> Tensor:
            x = self.pool(self.relu(self.first(images)))
            return self.head(self.pool(self.relu(self.second(x))).mean((2, 3)))

    assert NetworkInspector(Shared(), image_of(32)).layers == Layers(
        ("first", "second"), "second", "head:input", "head"
    )


def test_layers_are_the_same_behind_a_resize() -> None:
    network = torchvision.models.resnet18(num_classes=10)
    adapted = AdaptedInput(network, InputSpec(size=32), (0.5,) * 3, (0.25,) * 3)
    assert NetworkInspector(adapted, image_of(32)).layers == NetworkInspector(network, image_of(32)).layers


def test_a_pooling_is_no_stage() -> None:
    assert "avgpool" not in NetworkInspector(torchvision.models.vgg11(num_classes=10), image_of(64)).layers.stages


def test_former_name_warns() -> None:
    import stkd_lightning.models

    with pytest.warns(DeprecationWarning, match="NetworkInspector"):
        assert stkd_lightning.models.Probe is NetworkInspector
