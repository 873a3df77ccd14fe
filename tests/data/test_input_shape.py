"""Images that are not square: prepared, augmented, batched, and shown to networks of any input size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from stkd_lightning.data import ArrayDataModule, DigitsDataModule, RawData, RawSplit
from stkd_lightning.data.augment import CropAndFlip
from stkd_lightning.models import InputSpec, create_model, for_data
from stkd_lightning.models.build import build_network, example_of, input_facts
from stkd_lightning.models.cost import flops

ZOO = {"_target_": "stkd_lightning.models.create_model", "name": "resnet8", "num_classes": 2}


class WideDataModule(ArrayDataModule):
    """Random images of 12x20 pixels."""

    name = "wide"

    def locate(self) -> Path:
        return self.cache

    def stamps(self, folder: Path) -> list[Path]:
        return []

    def read(self, folder: Path) -> RawData:
        images = np.random.default_rng(0).integers(0, 256, (40, 3, 12, 20), dtype=np.uint8)
        return RawData({s: RawSplit([0, 1] * 20, [images], (3, 12, 20)) for s in ("train", "test")}, ["a", "b"])


@pytest.fixture
def wide(tmp_path: Path) -> WideDataModule:
    return WideDataModule(cache_dir=tmp_path, batch_size=8)


def test_data_module_knows_the_shape_of_its_images(wide: WideDataModule, tmp_path: Path) -> None:
    assert (wide.input_shape, wide.image_size) == ((3, 12, 20), (12, 20))
    digits = DigitsDataModule(cache_dir=tmp_path)
    assert (digits.input_shape, digits.image_size) == ((3, 8, 8), 8)


def test_loaders_give_batches_of_images_that_are_not_square(wide: WideDataModule) -> None:
    train = next(iter(wide.train_dataloader()))
    assert train.images.shape == (8, 3, 12, 20)
    assert wide.augmentation == CropAndFlip(padding=1, flip=wide.flip)
    assert next(iter(wide.test_dataloader())).images.shape == (40, 3, 12, 20)


def test_build_network_for_images_that_are_not_square(wide: WideDataModule) -> None:
    assert example_of(wide).shape == (1, 3, 12, 20)
    network = build_network(OmegaConf.create(ZOO), wide)
    assert network(example_of(wide)).shape == (1, 2)
    assert input_facts(network, wide)["size"] == (12, 20)
    assert flops(network, wide.image_size) == flops(network, (12, 20)) > flops(network, 12)


class Sees(nn.Module):
    """Returns the height and width of its input as logits."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.tensor(images.shape[-2:]).expand(len(images), 2)


@pytest.mark.parametrize("size", [(16, 24), [16, 24]])
def test_for_data_resizes_to_height_and_width(size: tuple[int, int], wide: WideDataModule) -> None:
    network = for_data(Sees(), InputSpec(size), image_size=wide.image_size, mean=wide.mean, std=wide.std)
    assert network(example_of(wide)).tolist() == [[16, 24]]


@pytest.mark.parametrize("size", [(12, 20), None])
def test_for_data_keeps_a_network_of_the_same_size(size: tuple[int, int] | None, wide: WideDataModule) -> None:
    network = create_model("resnet8", num_classes=2)
    assert for_data(network, InputSpec(size), image_size=wide.image_size, mean=wide.mean, std=wide.std) is network
