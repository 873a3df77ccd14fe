"""Classifiers of Hugging Face transformers, from folders that save_pretrained wrote."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from omegaconf import OmegaConf

from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.models import AdaptedInput, InputSpec, huggingface_model
from stkd_lightning.models.adapters.huggingface import architecture
from stkd_lightning.models.build import Images, build_network
from stkd_lightning.models.class_order import declared_classes
from stkd_lightning.models.input_adapter import declared
from stkd_lightning.models.logits import logits_of
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.utilities.errors import InputError
from tests.huggingface import saved

NAMES = ("cat", "dog", "maple_tree")
DATA = SimpleNamespace(
    num_classes=3, image_size=12, task=Classification(), mean=(0.5,) * 3, std=(0.2,) * 3, class_names=NAMES
)
NODE = {"_target_": "stkd_lightning.models.huggingface_model", "num_classes": 3}


def build(folder: Path, data: Any = DATA, **options: Any) -> torch.nn.Module:
    return build_network(OmegaConf.create({**NODE, "name": str(folder), **options}), cast(Images, data))


@pytest.mark.parametrize("kind", ["vit", "resnet", "convnext"])
def test_weights_and_input_are_those_of_the_folder(kind: str, tmp_path: Path) -> None:
    trained = saved(kind, tmp_path, classes=3)
    network = huggingface_model(str(tmp_path), pretrained=True)
    assert network.state_dict().keys() == trained.state_dict().keys()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, trained.state_dict()[name])
    assert declared(network) == InputSpec(16, (0.1, 0.2, 0.3), (0.5, 0.5, 0.5), "bicubic")
    adapted = build(tmp_path, pretrained=True)
    assert isinstance(adapted, AdaptedInput)
    assert adapted.describe().startswith("16 pixels, bicubic, mean [0.1, 0.2, 0.3]")
    assert adapted.eval()(torch.randn(2, 3, 12, 12)).shape == (2, 3)


def test_an_input_is_that_of_the_image_processor(tmp_path: Path) -> None:
    """The adapted images are those that the processor makes of the same pixels."""
    from transformers import AutoImageProcessor

    saved("vit", tmp_path, classes=3)
    adapted = build(tmp_path, pretrained=True, input_size=None)
    seen: list[torch.Tensor] = []
    adapted.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    adapted((pixels / 255 - 0.5) / 0.2)
    expected = AutoImageProcessor.from_pretrained(tmp_path)(pixels, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(seen[0], expected, atol=0.05, rtol=0)  # the processor rounds to whole values of pixels


def test_another_number_of_classes_gets_a_new_classifier(tmp_path: Path) -> None:
    trained = saved("vit", tmp_path, classes=7, names=[f"c{i}" for i in range(7)])
    network = huggingface_model(str(tmp_path), 3, pretrained=True)
    torch.testing.assert_close(network.vit.layernorm.weight, trained.vit.layernorm.weight)
    assert logits_of(network(torch.randn(1, 3, 16, 16))).shape == (1, 3)
    assert declared_classes(network) == ()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_classes_of_the_same_names_are_reordered(kind: str, tmp_path: Path) -> None:
    trained = saved(kind, tmp_path, classes=3, names=["Maple tree", "cat", "dog"]).eval()
    images = torch.randn(2, 3, 16, 16)
    own = SimpleNamespace(**{**vars(DATA), "image_size": 16, "mean": (0.1, 0.2, 0.3), "std": (0.5,) * 3})
    network = build(tmp_path, own, pretrained=True).eval()
    torch.testing.assert_close(logits_of(network(images)), trained(images).logits[:, [1, 2, 0]])


def test_other_names_leave_the_order(tmp_path: Path) -> None:
    trained = saved("vit", tmp_path, classes=3, names=["dog", "cat", "oak"])
    network = build(tmp_path, pretrained=True)
    torch.testing.assert_close(network.network.classifier.weight, trained.classifier.weight)


def test_an_architecture_needs_no_folder(tmp_path: Path) -> None:
    saved("vit", tmp_path, classes=3)
    config, commit = architecture(str(tmp_path))
    assert commit is None
    network = huggingface_model("org/gone", 10, config=config, hidden_dropout_prob=0.5)
    assert declared(network) == InputSpec(16)
    assert logits_of(network.eval()(torch.randn(1, 3, 16, 16))).shape == (1, 10)
    check_trusted({"student": {**NODE, "name": "org/gone", "pretrained": False, "config": config}}, tmp_path)


@pytest.mark.parametrize(
    "options", [{"pretrained": True}, {"config": None}, {"config": {"model_type": "vit", "backbone": "org/evil"}},
                {"config": {"model_type": "vit", "_target_": "os.system"}}]
)  # fmt: skip
def test_networks_on_a_hub_are_not_trusted(options: dict[str, Any], tmp_path: Path) -> None:
    node = {**NODE, "name": "org/gone", "pretrained": False, "config": {"model_type": "vit"}, **options}
    with pytest.raises(InputError, match="its network is not on file but on a hub; trust=true allows it"):
        check_trusted({"student": node}, tmp_path)


def test_what_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"huggingface network 'org/none': cannot be read \(.*name a folder that save"):
        huggingface_model("org/none")
    with pytest.raises(InputError, match="cannot be read"):
        huggingface_model(str(tmp_path))
    saved("vit", tmp_path, classes=3)
    with pytest.raises(InputError, match="option of ViTConfig 'hidden_sice': unknown; did you mean hidden_size"):
        huggingface_model(str(tmp_path), hidden_sice=3)
    weights = tmp_path / "model.safetensors"
    torch.save({}, tmp_path / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        huggingface_model(str(tmp_path), pretrained=True)


def test_a_folder_without_image_processor_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved("resnet", tmp_path, classes=3)
    (tmp_path / "preprocessor_config.json").unlink()
    assert declared(huggingface_model(str(tmp_path), pretrained=True)) == InputSpec()
    assert "has no image processor; its images keep the data's mean and std" in capsys.readouterr().out


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    saved("resnet", tmp_path / "a", classes=3)
    saved("vit", tmp_path / "b", classes=3)
    (tmp_path / "a" / "model.safetensors").rename(tmp_path / "b" / "model.safetensors")
    with pytest.raises(InputError, match="its weights do not fit vit.embeddings"):
        huggingface_model(str(tmp_path / "b"), pretrained=True)
