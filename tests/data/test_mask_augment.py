"""Images and masks are scaled, cropped and mirrored together, as a function of (seed, epoch, sample)."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.data.arrays import MaskedSplit
from stkd_lightning.data.mask_augment import MaskAugmentation, recoloured
from stkd_lightning.tasks.segmentation_metrics import IGNORED

MEAN = (0.2, 0.4, 0.6)
NEAR: dict[str, float] = {"atol": 1e-3, "rtol": 0}  # of 255 levels
SIZES = [(9, 12), (7, 5), (16, 16)]


def split(sizes: list[tuple[int, int]] = SIZES) -> MaskedSplit:
    random = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), generator=random, dtype=torch.uint8) for size in sizes]
    masks = [torch.randint(0, 4, size, generator=random, dtype=torch.uint8) for size in sizes]
    pixels, classes = (torch.cat([part.flatten() for part in parts]) for parts in (images, masks))
    return MaskedSplit.of(pixels, classes, torch.tensor(sizes))


def draws(
    scale: float = 1.0, top: float = 0.0, left: float = 0.0, mirrored: bool = False, count: int = 1
) -> tuple[Tensor, ...]:
    numbers = (torch.full((count,), value) for value in (scale, top, left))
    return (*numbers, torch.full((count,), mirrored))


def made(augmentation: MaskAugmentation, drawn: tuple[Tensor, ...], index: int = 0) -> tuple[Tensor, Tensor]:
    indices = torch.tensor([index])
    return augmentation.images(split(), indices, drawn)[0], augmentation.labels(split(), indices, drawn)[0]


def test_an_image_of_the_samples_size_stays() -> None:
    image, mask = made(MaskAugmentation((9, 12), MEAN), draws(top=0.7, left=0.3))
    torch.testing.assert_close(image, split().image(0).float(), **NEAR)
    assert torch.equal(mask, split().mask(0).long())


def test_a_mirrored_image_has_a_mirrored_mask() -> None:
    image, mask = made(MaskAugmentation((9, 12), MEAN), draws(mirrored=True))
    torch.testing.assert_close(image, split().image(0).float().flip(2), **NEAR)
    assert torch.equal(mask, split().mask(0).long().flip(1))


@pytest.mark.parametrize(("top", "left", "first"), [(0.0, 0.0, (0, 0)), (1.0, 1.0, (5, 4)), (0.5, 0.26, (2, 1))])
def test_a_crop_is_a_part_of_the_image(top: float, left: float, first: tuple[int, int]) -> None:
    image, mask = made(MaskAugmentation((4, 8), MEAN), draws(top=top, left=left))
    part = slice(None), slice(first[0], first[0] + 4), slice(first[1], first[1] + 8)
    torch.testing.assert_close(image, split().image(0).float()[part], **NEAR)
    assert torch.equal(mask, split().mask(0).long()[part[1:]])


def test_a_small_image_lies_in_mean_colour_without_class() -> None:
    image, mask = made(MaskAugmentation((9, 8), MEAN), draws(top=1.0, left=0.0), index=1)  # 7x5, at the bottom left
    torch.testing.assert_close(image[:, 2:, :5], split().image(1).float(), **NEAR)
    assert torch.equal(mask[2:, :5], split().mask(1).long())
    outside = torch.ones(9, 8, dtype=torch.bool)
    outside[2:, :5] = False
    torch.testing.assert_close(image[:, outside], 255 * torch.tensor(MEAN)[:, None].expand(3, int(outside.sum())))
    assert (mask[outside] == IGNORED).all()


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0])
def test_a_scaled_image_is_that_of_torch(scale: float) -> None:
    size = round(16 * scale), round(16 * scale)
    image, mask = made(MaskAugmentation(size, MEAN), draws(scale=scale), index=2)
    source = split().image(2)[None].float()
    expected = F.interpolate(source, size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(image, expected, **NEAR)
    nearest = F.interpolate(split().mask(2)[None, None].float(), size, mode="nearest-exact")[0, 0].long()
    assert torch.equal(mask, nearest)


def test_draws_are_the_same_in_any_company() -> None:
    augmentation = MaskAugmentation((8, 8), MEAN, (0.5, 2.0), flip=True, colour=0.4)
    whole = augmentation.draw(np.arange(50), seed=3, epoch=9)
    part = augmentation.draw(np.array([5, 40, 6]), seed=3, epoch=9)
    assert len(whole) == 7
    for one, other in zip(whole, part, strict=True):
        assert torch.equal(one[[5, 40, 6]], other)
    assert not torch.equal(augmentation.draw(np.arange(50), seed=3, epoch=10)[0], whole[0])


def test_draws_fill_their_ranges() -> None:
    augmentation = MaskAugmentation((8, 8), MEAN, (0.5, 2.0), flip=True, colour=0.4)
    scale, top, left, mirrored, *colours = augmentation.draw(np.arange(20_000), seed=1, epoch=0)
    for values, low, high in ((scale, 0.5, 2.0), (top, 0.0, 1.0), (left, 0.0, 1.0), *((c, 0.6, 1.4) for c in colours)):
        ordered = values.double().sort().values
        expected = torch.linspace(low, high, len(ordered), dtype=torch.float64)
        assert float((ordered - expected).abs().max()) < 0.02 * (high - low)
    assert float(mirrored.float().mean()) == pytest.approx(0.5, abs=0.02)
    numbers = torch.stack([scale, top, left, mirrored.float(), *colours])
    assert float((torch.corrcoef(numbers) - torch.eye(7)).abs().max()) < 0.03
    assert not MaskAugmentation((8, 8), MEAN, flip=False).draw(np.arange(100), seed=0, epoch=0)[3].any()


def test_batches_are_made_as_single_samples() -> None:
    augmentation = MaskAugmentation((8, 10), MEAN, (0.5, 2.0), flip=True, colour=0.4)
    indices = torch.tensor([2, 0, 1, 0])
    drawn = augmentation.draw(np.array([2, 0, 1, 0]), seed=0, epoch=0)
    images, masks = augmentation.images(split(), indices, drawn), augmentation.labels(split(), indices, drawn)
    for i in range(4):
        one = tuple(part[i : i + 1] for part in drawn)
        assert torch.equal(augmentation.images(split(), indices[i : i + 1], one)[0], images[i])
        assert torch.equal(augmentation.labels(split(), indices[i : i + 1], one)[0], masks[i])


def test_neutral_colours_change_nothing() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5)).float()
    one = torch.ones(2)
    torch.testing.assert_close(recoloured(images, one, one, one), images, **NEAR)


def test_colours_by_hand() -> None:
    """Red 100 and blue 100: grays 29.9 and 11.4, mean 20.65."""
    images = torch.zeros(1, 3, 1, 2)
    images[0, 0, 0, 0] = images[0, 2, 0, 1] = 100
    one, half, zero = torch.ones(1), torch.full((1,), 0.5), torch.zeros(1)
    torch.testing.assert_close(recoloured(images, half, one, one), images / 2)
    torch.testing.assert_close(recoloured(images, one, zero, one), torch.full_like(images, 20.65))
    gray = torch.tensor([29.9, 11.4]).expand(1, 3, 1, 2)
    torch.testing.assert_close(recoloured(images, one, one, zero), gray)
    assert float(recoloured(images + 200, one * 2, one, one).max()) == 255


def test_colour_leaves_uncovered_pixels() -> None:
    augmentation = MaskAugmentation((12, 12), MEAN, colour=0.5)
    drawn = (*draws(), torch.tensor([0.5]), torch.tensor([1.0]), torch.tensor([1.0]))
    image = augmentation.images(split(), torch.tensor([1]), drawn)[0]
    torch.testing.assert_close(image[:, 7:], 255 * torch.tensor(MEAN)[:, None, None].expand(3, 5, 12))
    torch.testing.assert_close(image[:, :7, :5], split().image(1) * 0.5, **NEAR)
