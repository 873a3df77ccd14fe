"""Networks that an untrusted file may name: those of the project and its adapters, by plain names."""

from pathlib import Path
from typing import Any, cast

import pytest
from omegaconf import OmegaConf

from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import conf_dir

MODELS = "stkd_lightning.models"
SMP = {
    "_target_": f"{MODELS}.smp_model",
    "name": "FPN",
    "num_classes": 2,
    "encoder": "tu-resnet10t",
    "pretrained": False,
}
TORCHVISION = {"_target_": f"{MODELS}.torchvision_segmentation_model", "name": "fcn_resnet50", "auxiliary": True}
FILE = Path("student.ckpt")


@pytest.mark.parametrize(
    "node", [{"_target_": f"{MODELS}.DilatedResNet", "num_classes": 2, "width": 8, "weights": None}, SMP, TORCHVISION]
)
def test_segmentation_networks_are_trusted(node: dict[str, Any]) -> None:
    check_trusted({"student": node}, FILE)


@pytest.mark.parametrize(
    "node", [{**SMP, "encoder": "tu-hf-hub:evil/model"}, {**SMP, "pretrained": "ssl"}, {**TORCHVISION, "progress": [1]}]
)
def test_networks_with_other_texts_are_refused(node: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is not plain; trust=true allows it"):
        check_trusted({"student": node}, FILE)


PHOTOS = {"_target_": "stkd_lightning.data.ImageFolderDataModule", "storage": "streamed", "image_size": [32, 48]}
AUGMENT = {"_target_": "stkd_lightning.data.Augment", "crop_scale": [0.08, 1.0], "policy": "trivial", "plain": False}


DATASETS = sorted(p.stem for p in (conf_dir() / "dataset").glob("[!_]*.yaml"))


@pytest.mark.parametrize("name", DATASETS)
def test_data_sets_of_the_project_are_trusted(name: str) -> None:
    with composing():
        dataset = composed("train", [f"dataset={name}", "cache_dir=cache"]).dataset
    node = cast(dict[str, Any], OmegaConf.to_container(dataset, resolve=True))
    named = {option: "name" for option in node if option.endswith(("_dir", "_folder", "_file"))}
    check_trusted({"dataset": node | named}, FILE)


def test_photographs_and_their_augmentation_are_trusted() -> None:
    check_trusted({"dataset": {**PHOTOS, "augment": AUGMENT}}, FILE)
    check_trusted({"dataset": {**PHOTOS, "augment": None}}, FILE)


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": f"{MODELS}.timm_model", "name": "resnet50", "num_classes": 2, "pretrained": True},
        {**AUGMENT, "policy": {"_target_": "os.system"}},
        {**AUGMENT, "_args_": [1]},
    ],
)
def test_other_augmentations_are_refused(node: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is not plain; trust=true allows it"):
        check_trusted({"dataset": {**PHOTOS, "augment": node}}, FILE)
