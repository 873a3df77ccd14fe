"""The random transforms of single images: they are torchvision's, and a function of (seed, epoch, sample)."""

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import v2

from stkd_lightning.data.arrays import Split
from stkd_lightning.data.augment import CropAndFlip
from stkd_lightning.data.transforms import Augment, ResizedCrops, ShiftedAndTransformed, sample_seeds
from stkd_lightning.utilities.errors import InputError

PICTURES = torch.randint(0, 256, (12, 3, 20, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SPLIT = Split(PICTURES, torch.arange(12))
EVERYTHING = Augment(crop_scale=(0.3, 1.0), policy="trivial", brightness=0.4, hue=0.1, erasing=0.5)


def crops(settings: Augment = EVERYTHING, *, flip: bool = True) -> ResizedCrops:
    return ResizedCrops((16, 16), settings, settings.transform((0.5, 0.4, 0.3), flip=flip))


def made(
    augmentation: ResizedCrops | ShiftedAndTransformed, indices: Tensor, *, epoch: int = 0, seed: int = 0
) -> Tensor:
    draws = augmentation.draw(indices.numpy(), seed=seed, epoch=epoch)
    return augmentation.images(SPLIT, indices, draws)


@pytest.mark.parametrize("augmentation", [crops(), ShiftedAndTransformed(CropAndFlip(2, True), v2.RandAugment(2, 9))])
def test_a_sample_is_transformed_alike_in_any_batch(augmentation: ResizedCrops | ShiftedAndTransformed) -> None:
    whole = made(augmentation, torch.arange(12), epoch=3)
    order = torch.tensor([7, 0, 3])
    torch.manual_seed(5)
    assert torch.equal(made(augmentation, order, epoch=3), whole[order])
    assert not torch.equal(made(augmentation, torch.arange(12), epoch=4), whole)
    assert not torch.equal(made(augmentation, torch.arange(12), epoch=3, seed=1), whole)


def test_the_generator_of_the_run_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    threads = torch.get_num_threads()
    made(crops(), torch.arange(12))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_crops_equal_torchvisions_on_the_same_draws() -> None:
    ours = made(crops(), torch.arange(12))
    steps = [
        v2.RandomResizedCrop((16, 16), scale=(0.3, 1.0), interpolation=v2.InterpolationMode.BICUBIC),
        v2.RandomHorizontalFlip(),
        v2.TrivialAugmentWide(),
        v2.ColorJitter(0.4, 0, 0, 0.1),
        v2.RandomErasing(0.5, value=[128.0, 102.0, 76.0]),
    ]
    seeds = sample_seeds(np.arange(12), 0, 0).tolist()
    for image, result, seed in zip(PICTURES, ours, seeds, strict=True):
        torch.manual_seed(seed)
        assert torch.equal(v2.Compose(steps)(image), result)


def test_crops_have_torchvisions_distribution() -> None:
    # A picture whose levels tell row and column: a crop without change of size shows its own box.
    rows, columns = torch.meshgrid(torch.arange(200), torch.arange(250), indexing="ij")
    picture = torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)
    settings = Augment(crop_scale=(0.08, 1.0))
    augmentation = ResizedCrops((32, 32), settings, None)
    count = 3000
    indices = torch.arange(count)
    split = Split(picture.expand(count, *picture.shape), indices)
    ours = augmentation.images(split, indices, augmentation.draw(indices.numpy(), seed=0, epoch=0)).float()
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop((32, 32), scale=(0.08, 1.0), interpolation=v2.InterpolationMode.BICUBIC)
    theirs = torch.stack([crop(picture) for _ in range(count)]).float()
    for channel in (0, 1):
        for corner in (0, -1):
            values = [images[:, channel, corner, corner].numpy() for images in (ours, theirs)]
            assert ks_2samp(*values).pvalue > 1e-3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop_scale": (1.0, 0.5)}, "nearest is \\[0.5,1\\]"),
        ({"crop_scale": (0.0, 0.5)}, "above 0"),
        ({"crop_ratio": (2.0, 1.0)}, "nearest is \\[1,2\\]"),
        ({"policy": "trivail"}, "did you mean trivial"),
        ({"magnitude": 31}, "at most 30"),
        ({"hue": 0.6}, "nearest is 0.5"),
        ({"erasing": 2.0}, "nearest is 1"),
    ],
)
def test_settings_outside_their_range_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Augment(**options)


def test_settings_without_effect_make_no_transform() -> None:
    assert Augment().transform((0.5,), flip=False) is None
    assert Augment().transform((0.5,), flip=True) is not None
