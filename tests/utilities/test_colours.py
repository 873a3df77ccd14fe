import numpy as np

from stkd_lightning.utilities.colours import class_colours


def test_class_colours_are_distinct() -> None:
    for count, least in ((255, 17), (20, 50)):
        colours = class_colours(count).astype(int)
        apart = np.linalg.norm(colours[:, None] - colours[None], axis=2)[~np.eye(count, dtype=bool)]
        assert colours.shape == (count, 3)
        assert apart.min() >= least


def test_class_colours_differ_from_black_and_white() -> None:
    brightness = class_colours(255) @ np.array([0.2126, 0.7152, 0.0722])
    assert brightness.min() > 40
    assert brightness.max() < 235


def test_colours_of_few_classes_are_those_of_many() -> None:
    assert np.array_equal(class_colours(255)[:3], class_colours(3))
