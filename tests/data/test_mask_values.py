import numpy as np
import pytest

from stkd_lightning.data.mask_values import MaskValues
from stkd_lightning.utilities.errors import InputError

VALUES = MaskValues({0: 0, 1: 1, 2: 2, 7: 3, 11: 255, 255: 255}, "set ignored={value}")


def test_values_become_labels() -> None:
    mask = np.array([[0, 1, 2], [7, 11, 255]], np.uint8)
    labels = VALUES.to_labels(mask)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 1, 2], [3, 255, 255]]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([0, 9, 9], "value 9 in 2 of 3 pixels, but classes are 0 to 2, 7 and ignored is 11, 255; set ignored=9"),
        ([3, 0, 4, 5], "values 3, 4, 5 in 3 of 4 pixels, but classes are"),
        ([30, 40, 50, 60, 70, 80, 90], "values 30, 40, 50, 60, 70 and 2 more in 7 of 7 pixels"),
        ([11, 255, 11], "all its pixels are ignored; label it, or delete this mask and its image"),
    ],
)  # fmt: skip
def test_values_without_label_are_named(row: list[int], words: str) -> None:
    with pytest.raises(InputError) as caught:
        VALUES.to_labels(np.array([row], np.uint8))
    assert str(caught.value).startswith(words)


def test_values_may_all_be_classes() -> None:
    values = MaskValues({0: 0, 1: 1}, "")
    assert values.describe() == "classes are 0 to 1"
    assert values.to_labels(np.array([[1, 0]], np.uint8)).tolist() == [[1, 0]]
