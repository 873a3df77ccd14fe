"""Wrong images as arrays and as figures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stkd_lightning.reporting.class_gallery import Pictures, class_predictions
from stkd_lightning.reporting.class_predictions import GALLERY, ClassPredictions
from stkd_lightning.reporting.classified import Classified
from stkd_lightning.reporting.curves import read_curves
from stkd_lightning.reporting.diagnose import diagnose
from stkd_lightning.reporting.diagnostics import FILE, Diagnostics, read_diagnostics
from stkd_lightning.reporting.figures import pictures, png, svg
from stkd_lightning.reporting.figures.class_accuracy import ACCURACY, accuracy_lines
from stkd_lightning.reporting.figures.class_scores import draw_class_scores
from stkd_lightning.reporting.figures.confusion import draw_confusion
from stkd_lightning.reporting.figures.mistakes import draw_images
from stkd_lightning.reporting.grouping import settings
from stkd_lightning.reporting.html import page
from stkd_lightning.reporting.report import make_report
from stkd_lightning.tasks.types import Batch
from stkd_lightning.utilities.errors import InputError
from tests.reporting.runs import CLASSES, run, written

NAMES = ["a.png", "<script>alert(1)</script>.jpg", "x\x1b[31m\u202e.png"]


def view(channels: int = 3, height: int = 6, width: int = 9) -> Tensor:
    return torch.rand(40, channels, height, width, generator=torch.Generator().manual_seed(0))


def of_images(images: Tensor) -> Pictures:
    channels = images.shape[1]
    return Pictures(lambda i: images[i : i + 1], lambda i: NAMES[i % 3], [0.0] * channels, [1.0] * channels)


def predictions(classes: int = 5, images: Tensor | None = None, *, taught: bool = True) -> ClassPredictions:
    random = torch.Generator().manual_seed(1)
    student, teacher = (3 * torch.randn(40, classes, generator=random) for _ in range(2))
    found = Classified.of(torch.arange(40), torch.arange(40) % classes, student, teacher if taught else None)
    return class_predictions(found, of_images(view() if images is None else images))


def test_gallery_shows_the_images_that_it_names() -> None:
    found, images = predictions(), view()
    assert found.wrong.pictures.shape == (GALLERY, 3, 6, 9)
    for i in range(GALLERY):
        distances = [np.abs(255 * image.numpy() - found.wrong.pictures[i]).max() for image in images]
        index = int(np.argmin(distances))
        assert distances[index] <= 0.5
        assert found.wrong.classes[i].tolist() == [index % 5, found.student_first[index], found.teacher_first[index]]
        assert found.wrong.files[i] == NAMES[index % 3]
    assert (np.diff(found.wrong.shares[:, 0]) <= 0).all()
    assert (found.lost.classes[:, 0] == found.lost.classes[:, 2]).all()


@pytest.mark.parametrize(("channels", "sides", "shown"), [(1, (6, 9), (6, 9)), (3, (320, 200), (160, 100)),
                                                          (4, (5, 5), (5, 5))])  # fmt: skip
def test_gallery_takes_images_of_any_sides_and_channels(
    channels: int, sides: tuple[int, int], shown: tuple[int, int]
) -> None:
    found = predictions(images=view(channels, *sides))
    assert found.wrong.pictures.shape == (GALLERY, 3, *shown)


def test_gallery_without_mistakes_is_empty() -> None:
    right = torch.eye(4)
    found = class_predictions(Classified.of(torch.arange(4), torch.arange(4), right, right), of_images(view()))
    assert len(found.wrong) == len(found.lost) == 0
    found.check_predictions(4, 4)


def measured(folder: Path) -> Diagnostics:
    images, labels = view(), torch.arange(40) % 5
    batch = Batch(images, labels, torch.arange(40))
    weights = [torch.randn(162, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
    student, teacher = (lambda x, w=w: x.flatten(1) @ w for w in weights)
    options: dict[str, Any] = {"device": torch.device("cpu"), "mean": [0.0] * 3, "std": [1.0] * 3}
    found = diagnose(student, teacher, [batch], num_classes=5, pictures=of_images(images), **options)
    found.save(folder / FILE)
    return found


def test_diagnostics_hold_first_classes_and_galleries(tmp_path: Path) -> None:
    found, again = measured(tmp_path), read_diagnostics(tmp_path / FILE)
    assert len(again.wrong) == GALLERY
    assert again.is_whole
    for name, values in vars(found).items():
        assert np.array_equal(values, getattr(again, name)), name


def test_diagnostics_of_an_older_version_are_measured_again(tmp_path: Path) -> None:
    found = measured(tmp_path)
    older = {name: values for name, values in vars(found).items() if name not in vars(ClassPredictions())}
    np.savez(tmp_path / FILE, **older)
    again = read_diagnostics(tmp_path / FILE)
    assert not again.is_whole
    assert len(again.wrong) == 0


@pytest.mark.parametrize(("changes", "words"), [
    ({"student_first": np.full(40, 9)}, r"student_first must hold whole numbers in \[0, 5\)"),
    ({"labels": np.zeros(3, int)}, "labels has shape"),
    ({"wrong_classes": np.full((12, 3), 7)}, "wrong_classes must hold"),
    ({"wrong_shares": np.full((12, 2), 3.0)}, "wrong_shares must hold numbers"),
    ({"wrong_files": np.zeros(12)}, "wrong_files must hold names"),
    ({"wrong_pictures": np.zeros((12, 3, 6, 9))}, "wrong_pictures needs uint8"),
    ({"wrong_pictures": np.zeros((12, 1, 6, 9), np.uint8)}, "wrong_pictures has shape"),
    ({"lost_files": np.zeros(99, "U1")}, "lost_files has shape"),
])  # fmt: skip
def test_diagnostics_with_odd_galleries_are_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    replace(measured(tmp_path), **changes).save(tmp_path / FILE)
    with pytest.raises(InputError, match=words):
        read_diagnostics(tmp_path / FILE)


def test_few_classes_are_a_matrix_and_many_are_pairs() -> None:
    few, many = predictions(), predictions(250)
    matrix = draw_confusion(few, [f"class {i}" for i in range(5)])
    assert matrix is not None
    numbers = sum(int(text.get_text()) for text in matrix.axes[0].texts)
    assert numbers == 40
    pairs = draw_confusion(many, [f"a long name of a class {i}" for i in range(250)])
    assert pairs is not None
    assert len(pairs.axes[0].get_yticklabels()) == 20
    right = replace(many, student_first=many.labels)
    assert draw_confusion(right, ["x"] * 250) is None
    for figure in (matrix, pairs):
        assert png(figure, 40).startswith(b"\x89PNG")


@pytest.mark.parametrize("taught", [True, False])
def test_figures_escape_names(taught: bool) -> None:
    found = predictions(taught=taught)
    figure = draw_images(found.wrong, ["<b>cat</b>", "d$og$", "\x1b[31m", "&", "\u202e"], taught=taught)
    text = svg(figure)
    assert "<b>" not in text
    assert "<script>" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_class_without_images_is_not_drawn() -> None:
    found = predictions()
    kept = found.labels != 2
    few = ClassPredictions(labels=found.labels[kept], student_first=found.student_first[kept])
    lines = accuracy_lines([("student", [few])], 5)
    assert np.isnan(lines[0][1][2])
    figure = draw_class_scores(lines, list("abcde"), "test", ACCURACY)
    assert sorted(text.get_text() for text in figure.axes[0].get_yticklabels()) == list("abde")


def test_report_shows_wrong_images_with_their_files(tmp_path: Path) -> None:
    one = written(run("kd", 0, 0.5), tmp_path / "run")
    found = one.diagnostics_of(Diagnostics)
    assert found is not None
    shown = predictions(len(CLASSES))
    replace(found, images=np.asarray(40), available=np.asarray(40), **vars(shown)).save(tmp_path / "run" / FILE)
    drawn = {p.name: p for p in pictures(settings([one]))}
    assert {"class_accuracy", "confusion", "mistakes", "outcomes", "disagreements"} <= set(drawn)
    assert "1 " in drawn["mistakes"].caption
    html = page(make_report([one], "kd", {}))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.jpg" in html
    assert "<script>alert" not in html


def test_loss_and_its_terms_are_drawn(tmp_path: Path) -> None:
    runs = [written(run("kd", seed, 0.5), tmp_path / str(seed)) for seed in (0, 1)]
    rows = ["epoch,step,train/loss,train/ce,train/kd,val/accuracy,val/cross_entropy", "0,4,3,1,2,,", "0,9,5,2,3,,",
            "0,9,,,,0.4,1.5", "1,19,2,1,1,,", "1,19,,,,0.5,1.2", "1,20,nan,,,,"]  # fmt: skip
    for one in runs:
        assert one.folder is not None
        (one.folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    curves = read_curves(tmp_path / "0" / "metrics.csv")
    assert curves.training == {"train/loss": {1: 4, 2: 2}, "train/ce": {1: 1.5, 2: 1}, "train/kd": {1: 2.5, 2: 1}}
    assert curves.validation == {"val/accuracy": {1: 0.4, 2: 0.5}, "val/cross_entropy": {1: 1.5, 2: 1.2}}
    again = [replace(one) for one in runs]  # which have read no curves yet
    drawn = {p.name: p for p in pictures(settings(again))}
    assert [axis.get_ylabel() for axis in drawn["losses"].figure.axes] == [
        "training loss", "validation\ncross-entropy, nats"
    ]  # fmt: skip
    lines = {str(line.get_label()): list(line.get_ydata()) for line in drawn["terms"].figure.axes[0].get_lines()}
    assert lines == {"sum": [4, 2], "ce": [1.5, 1], "kd": [2.5, 1]}
