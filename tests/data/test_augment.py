import numpy as np
import torch
from torchvision.transforms import RandomCrop, RandomHorizontalFlip
from torchvision.transforms import functional as V

from stkd_lightning.data.augment import Draws, crop_and_flip, draw
from stkd_lightning.utilities.random import sample_bits


def augmented(
    images: torch.Tensor, indices: torch.Tensor, *, padding: int, flip: bool, seed: int, epoch: int
) -> torch.Tensor:
    draws = draw(indices.numpy(), padding=padding, flip=flip, seed=seed, epoch=epoch)
    return crop_and_flip(images, draws, padding=padding)


def crop_by_loops(image: torch.Tensor, top: int, left: int, padding: int, mirrored: bool) -> torch.Tensor:
    _, height, width = image.shape
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row + top - padding, (width - 1 - column if mirrored else column) + left - padding
            if 0 <= y < height and 0 <= x < width:
                result[:, row, column] = image[:, y, x]
    return result


def test_crops_are_of_a_padded_and_perhaps_mirrored_image() -> None:
    images = torch.randint(1, 256, (20, 3, 8, 8), dtype=torch.uint8)
    cropped = augmented(images, torch.arange(20), padding=2, flip=True, seed=0, epoch=0)
    for image, result in zip(images, cropped, strict=True):
        options = [crop_by_loops(image, t, le, 2, m) for t in range(5) for le in range(5) for m in (False, True)]
        assert sum(torch.equal(result, option) for option in options) == 1


def test_draws_are_uniform() -> None:
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[0, 0, 4, 2] = 1
    count = 20_000
    cropped = augmented(image.expand(count, 1, 8, 8), torch.arange(count), padding=1, flip=True, seed=1, epoch=3)
    rows, columns = cropped[:, 0].nonzero()[:, 1], cropped[:, 0].nonzero()[:, 2]
    # The pixel ends in three rows, and in three columns of each half, all alike.
    places = torch.stack([rows, columns]).unique(dim=1, return_counts=True)
    assert places[0].shape[1] == 18
    np.testing.assert_allclose(places[1].numpy() / count, 1 / 18, rtol=0.15)


def test_a_sample_is_augmented_alike_in_any_batch() -> None:
    images = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)
    whole = augmented(images, torch.arange(10), padding=1, flip=True, seed=5, epoch=2)
    order = torch.tensor([7, 0, 3])
    part = augmented(images[order], order, padding=1, flip=True, seed=5, epoch=2)
    assert torch.equal(part, whole[order])
    other = augmented(images, torch.arange(10), padding=1, flip=True, seed=5, epoch=3)
    assert not torch.equal(other, whole)


def test_without_padding_and_flip_nothing_happens() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(augmented(images, torch.arange(4), padding=0, flip=False, seed=0, epoch=0), images)


def test_bits_are_independent_across_samples_and_epochs() -> None:
    bits = sample_bits(0, "test", 0, np.arange(4096))
    assert len(np.unique(bits)) == 4096
    ones = np.unpackbits(bits.view(np.uint8)).reshape(4096, 64).mean(0)
    np.testing.assert_allclose(ones, 0.5, atol=0.04)
    next_epoch = sample_bits(0, "test", 1, np.arange(4096))
    same = np.unpackbits((bits ^ next_epoch).view(np.uint8)).mean()
    assert abs(same - 0.5) < 0.01


def test_crops_are_those_of_torchvision() -> None:
    images = torch.randint(0, 256, (18, 3, 8, 6), dtype=torch.uint8)
    top, left = torch.arange(18) % 3, torch.arange(18) // 6
    mirrored = torch.arange(18) % 2 == 0
    cropped = crop_and_flip(images, Draws(top, left, mirrored), padding=1)
    for image, result, t, le, m in zip(images, cropped, top, left, mirrored, strict=True):
        # torchvision mirrors after the crop.
        expected = V.crop(V.pad(image, [1, 1]), int(t), int(le), 8, 6)
        assert torch.equal(result, V.hflip(expected) if m else expected)


def test_draws_are_distributed_as_torchvisions() -> None:
    """Chi-squared against the frequencies of the transforms in use, over the 5 x 5 x 2 outcomes."""
    count, padding = 20_000, 2
    draws = draw(np.arange(count), padding=padding, flip=True, seed=7, epoch=1)
    ours = torch.bincount((draws.top * 5 + draws.left) * 2 + draws.mirrored.long(), minlength=50)
    torch.manual_seed(0)
    frame, crop = torch.zeros(1, 8 + 2 * padding, 8 + 2 * padding), RandomCrop(8)
    theirs = torch.zeros(50)
    marked = torch.tensor([[[0.0, 1.0]]])
    for _ in range(count):
        top, left, *_ = crop.get_params(frame, (8, 8))
        theirs[(top * 5 + left) * 2 + int(RandomHorizontalFlip()(marked)[0, 0, 0])] += 1
    for counts in (ours, theirs):
        assert float(((counts - count / 50) ** 2 / (count / 50)).sum()) < 94.6  # 49 degrees of freedom, p = 0.0001
    difference = ((ours - theirs) ** 2 / (ours + theirs)).sum()
    assert float(difference) < 94.6


def test_draws_are_the_same_in_any_company() -> None:
    whole = draw(np.arange(100), padding=4, flip=True, seed=3, epoch=9)
    part = draw(np.array([5, 70, 6]), padding=4, flip=True, seed=3, epoch=9)
    for one, other in zip(whole, part, strict=True):
        assert torch.equal(one[[5, 70, 6]], other)
