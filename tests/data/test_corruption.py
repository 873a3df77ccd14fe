"""Distortions of test images: functions of the image, stronger with the strength."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stkd_lightning.commands.robustness import check_distortable, mean_score
from stkd_lightning.data.arrays import Split
from stkd_lightning.data.batches import Normalize
from stkd_lightning.data.corruption import DEVIATIONS, QUALITIES, STRENGTHS, Corruption, DistortedNormalize, names
from stkd_lightning.data.datasets.digits import DigitsDataModule
from stkd_lightning.data.datasets.synthetic_sounds import SyntheticSoundsDataModule
from stkd_lightning.tasks.base import Score
from stkd_lightning.utilities.errors import InputError


def images(channels: int = 3, side: int = 32) -> Tensor:
    """Return random images that are smooth, as photographs are."""
    levels = torch.rand(4, channels, side // 4, side // 4)
    return (255 * torch.nn.functional.interpolate(levels, scale_factor=4, mode="bilinear")).byte()


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize(("channels", "side"), [(3, 32), (1, 8), (3, 64)])
def test_a_stronger_distortion_changes_an_image_more(name: str, channels: int, side: int) -> None:
    clean = images(channels, side)
    distorted = [Corruption(name, strength)(clean) for strength in STRENGTHS]
    assert all(d.shape == clean.shape and d.dtype == torch.uint8 for d in distorted)
    errors = [(d.float() - clean.float()).square().mean().item() for d in distorted]
    assert errors == sorted(errors)
    assert errors[-1] > errors[0]


@pytest.mark.parametrize("name", names())
def test_a_distortion_does_not_depend_on_the_batch(name: str) -> None:
    clean, distort = images(), Corruption(name, 3)
    one_by_one = torch.cat([distort(image[None]) for image in clean.flip(0)]).flip(0)
    assert torch.equal(distort(clean), one_by_one)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_noise_has_its_deviation(strength: int) -> None:
    gray = torch.full((2, 3, 64, 64), 128, dtype=torch.uint8)
    gray[1, 0, 0, 0] = 127
    noise = Corruption("noise", strength)(gray).double() / 255 - 128 / 255
    assert noise.mean().item() == pytest.approx(0, abs=0.003)
    assert noise.std().item() == pytest.approx(DEVIATIONS[strength - 1], rel=0.05)
    assert not torch.equal(noise[0, 1], noise[1, 1])  # other images have other noise


def test_blur_keeps_an_even_image() -> None:
    even = torch.full((1, 3, 32, 32), 77, dtype=torch.uint8)
    assert torch.equal(Corruption("blur", 5)(even), even)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_jpeg_is_that_of_pillow(strength: int) -> None:
    (image,) = images()[:1]
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=QUALITIES[strength - 1])
    expected = np.asarray(Image.open(file)).astype(int)
    found = Corruption("jpeg", strength)(image[None])[0].permute(1, 2, 0).numpy().astype(int)
    assert np.array_equal(found, expected)


def test_images_are_distorted_before_they_are_normalized() -> None:
    clean, normalize, corruption = images(), Normalize((0.5,) * 3, (0.25,) * 3), Corruption("noise", 5)
    assert torch.equal(DistortedNormalize(normalize, corruption)(clean), normalize(corruption(clean)))
    loader = DigitsDataModule().test_dataloader()
    other = loader.normalized_by(DistortedNormalize(loader.normalize, corruption))
    assert torch.equal(next(iter(other)).labels, next(iter(loader)).labels)
    assert not torch.equal(next(iter(other)).inputs, next(iter(loader)).inputs)


def test_other_samples_are_refused() -> None:
    check_distortable(DigitsDataModule().test_dataloader())
    data = DigitsDataModule()
    loader = data.test_dataloader()
    loader.split = Split(torch.zeros(2, 4, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match=r"JPEG has 1 or 3 channels, but these images have 4"):
        check_distortable(loader)
    with pytest.raises(InputError, match=r"corruptions=true: distorts images of one size"):
        check_distortable(SyntheticSoundsDataModule().test_dataloader())


def test_the_mean_is_over_distortions_and_strengths() -> None:
    found = {"noise": [{"accuracy": 0.2}, {"accuracy": 0.4}], "blur": [{"accuracy": 0.6}, {"accuracy": 0.8}]}
    assert mean_score(found, Score()) == pytest.approx(0.5)
