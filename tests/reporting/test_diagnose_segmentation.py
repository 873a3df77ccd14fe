from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stkd_lightning.reporting.diagnose_segmentation import category_similarities, chosen_images, shrunk
from stkd_lightning.reporting.diagnostics import Diagnostics, read_diagnostics
from stkd_lightning.reporting.diagnostics_file import FILE
from stkd_lightning.reporting.segmentation_diagnostics import GALLERY, SegmentationDiagnostics
from stkd_lightning.tasks.segmentation_metrics import IGNORED
from stkd_lightning.tasks.types import Batch
from stkd_lightning.utilities.errors import InputError
from tests.reporting.mask_runs import CLASSES, SIZES, Network, diagnosed, images


def test_category_similarity_equals_loops() -> None:
    logits = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(0))
    found = category_similarities(logits)
    for image, matrix in zip(logits.softmax(1).flatten(2), found, strict=True):
        for i in range(4):
            for j in range(4):
                product = sum(float(a * b) for a, b in zip(image[i], image[j], strict=True))
                assert float(matrix[i, j]) == pytest.approx(
                    product / float(image[i].norm() * image[j].norm()), abs=1e-5
                )


def test_quality_and_similarity_are_means_over_images() -> None:
    student, teacher, batches = Network(0), Network(1), images()
    found = diagnosed(student, teacher, batches)
    assert (found.images, found.available, found.has_teacher) == (len(SIZES), len(SIZES), True)
    expected = torch.stack([category_similarities(student(b.images))[0] for b in batches]).mean(0)
    assert found.student_similarity == pytest.approx(expected.numpy(), abs=1e-6)
    for position, batch in enumerate(batches):
        predicted, truth = student(batch.images).argmax(1), batch.labels
        ratios = []
        for c in range(len(CLASSES)):
            right = ((predicted == c) & (truth == c)).sum()
            either = (((predicted == c) | (truth == c)) & (truth != IGNORED)).sum()
            ratios += [float(right / either)] * bool((truth == c).any())
        assert found.student_quality[position] == pytest.approx(np.mean(ratios), abs=1e-6)


def test_equal_networks_are_equally_similar() -> None:
    found = diagnosed(Network(0), Network(0), images())
    assert np.array_equal(found.student_similarity, found.teacher_similarity)
    assert np.array_equal(found.student_quality, found.teacher_quality)
    assert found.student_similarity.diagonal() == pytest.approx(1, abs=1e-6)


def test_gallery_has_low_medium_and_high_quality() -> None:
    assert chosen_images(np.array([0.5, 0.1, 0.9])) == [1, 0, 2]
    assert chosen_images(np.arange(10) / 10) == [0, 1, 4, 5, 8, 9]
    assert chosen_images(np.zeros(7)) == [0, 1, 2, 3, 5, 6]
    assert chosen_images(np.zeros(0)) == []


def test_gallery_holds_the_images_and_masks() -> None:
    student, batches = Network(0), images()
    found = diagnosed(student, Network(1), batches)
    order = np.argsort(found.student_quality)
    assert len(found.shown) == GALLERY
    assert found.shown_quality == pytest.approx(np.sort(found.shown_quality))
    assert found.shown_quality[[0, -1]] == pytest.approx(found.student_quality[order[[0, -1]]])
    first = batches[int(order[0])]
    height, width = first.labels.shape[1:]
    assert found.shown_sizes[0].tolist() == [height, width]
    assert np.array_equal(found.shown_truth[0, :height, :width], first.labels[0].numpy())
    assert np.array_equal(found.student_shown[0, :height, :width], student(first.images).argmax(1)[0].numpy())
    assert np.array_equal(found.shown[0, :, :height, :width], (255 * first.images[0]).round().byte().numpy())
    assert (found.shown_truth[0, height:] == IGNORED).all()


def test_large_images_are_shown_in_small() -> None:
    assert shrunk(torch.zeros(1, 3, 600, 300)).shape == (1, 3, 256, 128)
    assert shrunk(torch.zeros(1, 3, 100, 256)).shape == (1, 3, 100, 256)
    found = diagnosed(Network(0), None, images(sizes=((300, 600), (10, 10))))
    assert sorted(found.shown_sizes.tolist()) == [[10, 10], [128, 256]]
    assert found.student_shown.shape == (2, 256, 256)
    assert set(np.unique(found.student_shown)) <= {0, 1, 2, IGNORED}


def test_images_of_a_gallery_are_read_once_more() -> None:
    student = Network(0)
    diagnosed(student, None, images())
    assert student.calls == len(SIZES) + GALLERY


def test_images_without_any_class_are_left_out() -> None:
    batches = images()
    empty = Batch(batches[0].images, torch.full_like(batches[0].labels, IGNORED), torch.tensor([1]))
    found = diagnosed(Network(0), Network(1), [empty, *batches])
    assert (found.images, found.available, found.is_whole) == (len(SIZES), len(SIZES), True)
    assert np.array_equal(found.student_similarity, diagnosed(Network(0), None, batches).student_similarity)
    nothing = diagnosed(Network(0), Network(1), [empty])
    assert (nothing.images, len(nothing.shown), nothing.is_whole) == (0, 0, True)


@pytest.mark.parametrize("teacher", [Network(1), None], ids=["teacher", "alone"])
@pytest.mark.parametrize("count", [8, 1, 0])
def test_segmentation_file_is_read_as_written(teacher: Network | None, count: int, tmp_path: Path) -> None:
    found = diagnosed(Network(0), teacher, images()[:count])
    found.save(tmp_path / FILE)
    again = SegmentationDiagnostics.read(tmp_path / FILE)
    assert all(np.array_equal(getattr(found, name), getattr(again, name)) for name in vars(found))
    assert again.has_teacher == (teacher is not None)


def test_kinds_of_diagnostics_are_told_apart(tmp_path: Path) -> None:
    diagnosed(Network(0), None, images()).save(tmp_path / FILE)
    with pytest.raises(InputError, match="holds measurements of segmentation, not of classification"):
        read_diagnostics(tmp_path / FILE)
    old = {field.name: np.zeros(1) for field in fields(Diagnostics)}
    np.savez(tmp_path / FILE, **old)
    with pytest.raises(InputError, match="holds measurements of classification, not of segmentation"):
        SegmentationDiagnostics.read(tmp_path / FILE)


def test_values_that_cannot_be_drawn_are_refused(tmp_path: Path) -> None:
    good = diagnosed(Network(0), Network(1), images())
    changes = [
        ({"student_shown": np.full_like(good.student_shown, 3)}, "student_shown must hold classes below 3, or 255"),
        ({"shown_truth": good.shown_truth.astype(np.int64)}, "shown_truth needs uint8"),
        ({"shown_sizes": good.shown_sizes + 30}, r"shown_sizes must be whole numbers in \[1, 20\]"),
        ({"shown_sizes": 0 * good.shown_sizes}, r"shown_sizes must be whole numbers in \[1, 20\]"),
        ({"student_quality": good.student_quality * np.nan}, r"student_quality must hold numbers"),
        ({"student_quality": good.student_quality + 1}, r"student_quality must hold numbers in \[0, 1\]"),
        ({"teacher_similarity": np.zeros((2, 2))}, r"teacher_similarity has shape \(2, 2\), not \(3, 3\)"),
        ({"images": np.asarray(9)}, r"student_quality has shape \(8,\), not \(9,\)"),
        ({"shown": np.zeros((1, 3, 5, 4), np.uint8)}, "shown has shape"),
    ]
    for change, words in changes:
        replace(good, **change).save(tmp_path / FILE)
        with pytest.raises(InputError, match=words):
            SegmentationDiagnostics.read(tmp_path / FILE)


def test_networks_run_without_gradients() -> None:
    seen: list[bool] = []

    class Watched(Network):
        def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
            seen.append(torch.is_grad_enabled())
            return F.relu(super().__call__(pixels))

    diagnosed(Watched(0), Watched(1), images())
    assert seen
    assert not any(seen)
