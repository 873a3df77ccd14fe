"""Networks that an untrusted file may name: those of the project and its adapters, by plain names."""

from pathlib import Path
from typing import Any

import pytest

from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.utilities.errors import InputError

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
