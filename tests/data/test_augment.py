import numpy as np
import torch

from stkd_lightning.data.augment import crop_and_flip
from stkd_lightning.randomness import sample_bits


def crop_by_loops(image: torch.Tensor, top: int, left: int, padding: int, mirrored: bool) -> torch.Tensor:
    _, height, width = image.shape
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row + top - padding, (width - 1 - column if mirrored else column) + left - padding
            if 0 <= y < height and 0 <= x < width:
                result[:, row, column] = image[:, y, x]
    return result


def test_every_crop_is_one_of_a_padded_and_perhaps_mirrored_image() -> None:
    images = torch.randint(1, 256, (20, 3, 8, 8), dtype=torch.uint8)
    cropped = crop_and_flip(images, torch.arange(20), padding=2, flip=True, seed=0, epoch=0)
    for image, result in zip(images, cropped, strict=True):
        options = [crop_by_loops(image, t, le, 2, m) for t in range(5) for le in range(5) for m in (False, True)]
        assert sum(torch.equal(result, option) for option in options) == 1


def test_draws_are_uniform() -> None:
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[0, 0, 4, 2] = 1
    count = 20_000
    cropped = crop_and_flip(image.expand(count, 1, 8, 8), torch.arange(count), padding=1, flip=True, seed=1, epoch=3)
    rows, columns = cropped[:, 0].nonzero()[:, 1], cropped[:, 0].nonzero()[:, 2]
    # The pixel ends in three rows, and in three columns of each half, all alike.
    places = torch.stack([rows, columns]).unique(dim=1, return_counts=True)
    assert places[0].shape[1] == 18
    np.testing.assert_allclose(places[1].numpy() / count, 1 / 18, rtol=0.15)


def test_a_sample_is_augmented_alike_in_any_batch() -> None:
    images = torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8)
    whole = crop_and_flip(images, torch.arange(10), padding=1, flip=True, seed=5, epoch=2)
    order = torch.tensor([7, 0, 3])
    part = crop_and_flip(images[order], order, padding=1, flip=True, seed=5, epoch=2)
    assert torch.equal(part, whole[order])
    other = crop_and_flip(images, torch.arange(10), padding=1, flip=True, seed=5, epoch=3)
    assert not torch.equal(other, whole)


def test_without_padding_and_flip_nothing_happens() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(crop_and_flip(images, torch.arange(4), padding=0, flip=False, seed=0, epoch=0), images)


def test_bits_are_independent_across_samples_and_epochs() -> None:
    bits = sample_bits(0, "test", 0, np.arange(4096))
    assert len(np.unique(bits)) == 4096
    ones = np.unpackbits(bits.view(np.uint8)).reshape(4096, 64).mean(0)
    np.testing.assert_allclose(ones, 0.5, atol=0.04)
    next_epoch = sample_bits(0, "test", 1, np.arange(4096))
    same = np.unpackbits((bits ^ next_epoch).view(np.uint8)).mean()
    assert abs(same - 0.5) < 0.01
