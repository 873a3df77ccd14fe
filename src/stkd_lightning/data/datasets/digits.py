"""Real handwritten digits that come with scikit-learn: Alpaydin and Kaynak 1998, UCI "Optical Recognition of
Handwritten Digits" (its test part, 1,797 images at 8x8)."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from stkd_lightning.data.arrays import RawData, RawSplit
from stkd_lightning.data.holdout import hold_out
from stkd_lightning.data.module import ArrayDataModule

TEST_FRACTION = 0.25


class DigitsDataModule(ArrayDataModule):
    """Digits 0 to 9 at 8x8 in three equal channels; a quarter of each class is the test set. Never flipped.

    Args:
        data_dir: not used: the images are part of scikit-learn.
        flip: mirror half of the images; false, because a mirrored digit is another character.
        options: those of ``ArrayDataModule``.

    Example:
        >>> from stkd_lightning.data import DigitsDataModule
        >>> data = DigitsDataModule(batch_size=64)
        >>> data.num_classes, data.image_size, len(data.train_dataloader())
        (10, 8, 18)
        >>> batch = next(iter(data.train_dataloader()))
        >>> batch.images.shape, batch.labels.shape
        (torch.Size([64, 3, 8, 8]), torch.Size([64]))
    """

    name = "digits"

    def __init__(self, data_dir: str | Path = "data", *, flip: bool = False, **options: Any) -> None:
        super().__init__(data_dir, flip=flip, **options)

    def options(self) -> dict[str, object]:
        """Return the version of scikit-learn, which contains the images."""
        return {"scikit-learn": version("scikit-learn")}

    def locate(self) -> Path:
        """Return the folder of the cache; the digits have no files."""
        return self.cache

    def stamps(self, folder: Path) -> list[Path]:
        """Return an empty list: the images cannot change."""
        return []

    def read(self, folder: Path) -> RawData:
        """Read the images from scikit-learn and convert their 17 gray levels to bytes."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        gray = np.round(digits.images * (255 / 16)).astype(np.uint8)
        images = np.repeat(gray[:, None], 3, axis=1)
        train, test = hold_out(digits.target, TEST_FRACTION, seed=0)
        splits = {
            name: RawSplit(digits.target[indices].tolist(), [images[indices]], (3, 8, 8))
            for name, indices in (("train", train), ("test", test))
        }
        return RawData(splits, [str(n) for n in digits.target_names])
