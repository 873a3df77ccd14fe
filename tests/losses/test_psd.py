import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stkd_lightning.losses import Features, PSDLoss, all_pairs_similarity, pixel_similarity
from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.errors import InputError
from tests.losses.maps import array, bilinear
from tests.losses.properties import orthogonal, output, unit, waves
from tests.losses.segmenters import Segmenter, dense_outputs, dense_target, segmenters

TARGET = MixedTarget.unmixed(torch.arange(2))
Maps = tuple[Tensor, ...]


def stages(features: Tensor) -> Maps:
    """Cut three maps of different sizes and numbers of channels out of one, without arithmetic."""
    return features, features[:, 1:, :, ::2], features[:, :-1, 1:, 1:]


def even_stages(features: Tensor) -> Maps:
    """Cut three maps of one size out of one."""
    return features[..., :-1], features[:, 1:, :, 1:], features[:, :-1, :, :-1].flip(3)


def attention_by_loops(features: Tensor, height: int, width: int) -> list[list[float]]:
    """Return a unit vector for each sample."""
    values = array(features)
    batch, channels, rows, columns = values.shape
    energies = np.zeros((batch, 1, rows, columns))
    for b in range(batch):
        for y in range(rows):
            for x in range(columns):
                energies[b, 0, y, x] = sum(values[b, c, y, x] ** 2 for c in range(channels))
    return [unit(sample.ravel().tolist()) for sample in bilinear(energies, height, width)]


def psd_by_loops(student: Maps, teacher: Maps, *, include_first: bool = True) -> float:
    """Form the residuals of each network, and only then compare them."""
    height, width = (min(m.shape[side] for m in (*student, *teacher)) for side in (2, 3))
    own, other = ([attention_by_loops(m, height, width) for m in maps] for maps in (student, teacher))
    batch, total = len(student[0]), 0.0
    for b in range(batch):
        for place in range(height * width):
            if include_first:
                total += (other[0][b][place] - own[0][b][place]) ** 2
            for stage in range(len(own) - 1):
                residual = other[stage + 1][b][place] - other[stage][b][place]
                total += (residual - (own[stage + 1][b][place] - own[stage][b][place])) ** 2
    return total / batch


def cirkd_by_loops(student: Maps, teacher: Maps) -> float:
    """All pairs n < m of maps: squared difference of unit residuals, mean over positions, batch and pairs."""
    height, width = student[0].shape[2:]
    own, other = ([attention_by_loops(m, height, width) for m in maps] for maps in (student, teacher))
    batch, values = len(student[0]), []
    for n in range(len(own)):
        for m in range(n + 1, len(own)):
            total = 0.0
            for b in range(batch):
                left, right = (
                    unit([later - earlier for earlier, later in zip(maps[n][b], maps[m][b], strict=True)])
                    for maps in (own, other)
                )
                total += sum((p - q) ** 2 for p, q in zip(left, right, strict=True)) / (height * width)
            values.append(total / batch)
    return sum(values) / len(values)


def single(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 2, 2)


STUDENT = single([1, 0, 0, 0]), single([0, 2, 0, 0])
TEACHER = single([-1, 1, 1, 1]), single([0, 0, 3, 0])


def test_pixel_similarity_of_a_hand_computed_case() -> None:
    """Unit attention maps: student (1, 0, 0, 0) and (0, 1, 0, 0); teacher (1, 1, 1, 1) / 2 and (0, 0, 1, 0).

    Teacher minus student: (-1, 1, 1, 1) / 2, squared 1, and (0, -1, 1, 0). Residual of these: (1, -3, 1, -1) / 2,
    squared (1 + 9 + 1 + 1) / 4 = 3.
    """
    assert float(pixel_similarity(STUDENT, TEACHER)) == pytest.approx(4, rel=1e-12)
    assert float(pixel_similarity(STUDENT, TEACHER, include_first=False)) == pytest.approx(3, rel=1e-12)


def test_all_pairs_similarity_of_a_hand_computed_case() -> None:
    """Unit residuals: student (-1, 1, 0, 0) / sqrt 2, teacher (-1, -1, 1, -1) / 2.

    Their product is 0, so that the squared distance is 2; over four positions 1/2.
    """
    assert float(all_pairs_similarity(STUDENT, TEACHER)) == pytest.approx(1 / 2, rel=1e-12)


@pytest.mark.parametrize("include_first", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_pixel_similarity_equals_loops_for_any_sizes(include_first: bool, count: int) -> None:
    student = tuple(waves(2, 2 + i, 6 - i, 5, phase=i) for i in range(count))
    teacher = tuple(waves(2, 5 - i, 7, 9 - 2 * i, phase=i + 1.0) for i in range(count))
    value = pixel_similarity(student, teacher, include_first=include_first)
    expected = psd_by_loops(student, teacher, include_first=include_first)
    assert float(value) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_all_pairs_similarity_equals_loops(count: int) -> None:
    student = tuple(waves(2, 2 + i, 3, 4, phase=i) for i in range(count))
    teacher = tuple(waves(2, 5 - i, 3, 4, phase=i + 1.0) for i in range(count))
    assert float(all_pairs_similarity(student, teacher)) == pytest.approx(cirkd_by_loops(student, teacher), rel=1e-10)
    single_precision = all_pairs_similarity([m.float() for m in student], [m.float() for m in teacher])
    assert float(single_precision) == pytest.approx(cirkd_by_loops(student, teacher), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float64, (2, 2, 2, 3, 2, 2), elements=st.integers(-3, 3).map(float)))
def test_pixel_similarity_is_exact_and_bounded_at_zero_maps(features: np.ndarray) -> None:
    """Entries of unit vectors are not negative here: maps differ by at most 2, residuals by the sum of two maps' 8."""
    student, teacher = (tuple(maps) for maps in torch.from_numpy(features))
    value = float(pixel_similarity(student, teacher))
    assert value == pytest.approx(psd_by_loops(student, teacher), rel=1e-10, abs=1e-12)
    assert 0 <= value <= 2 + 8
    assert float(all_pairs_similarity(student, teacher)) == pytest.approx(
        cirkd_by_loops(student, teacher), rel=1e-10, abs=1e-12
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=6, max_size=6))
def test_scale_and_direction_of_features_do_not_matter(scales: list[float]) -> None:
    """Each sample of each map has its own scale, and channels are turned."""
    teacher = waves(2, 4, 3, 3), waves(2, 3, 3, 3, phase=1.0), waves(2, 2, 3, 3, phase=2.0)
    student = tuple(
        torch.tensor([scales[2 * i], -scales[2 * i + 1]]).view(2, 1, 1, 1)
        * torch.einsum("dc,bchw->bdhw", orthogonal(maps.shape[1]), maps)
        for i, maps in enumerate(teacher)
    )
    assert float(pixel_similarity(student, teacher)) == pytest.approx(0, abs=1e-14)
    assert float(all_pairs_similarity(student, teacher)) == pytest.approx(0, abs=1e-14)
    other = tuple(maps.flip(0) + 1 for maps in teacher)
    torch.testing.assert_close(pixel_similarity(student, other), pixel_similarity(teacher, other), rtol=1e-9, atol=0)


def test_a_map_that_is_read_twice_has_no_residual() -> None:
    """The student's own scores stand in for auxiliary scores; their residual of zero moves no feature."""
    scores = waves(2, 3, 4, 4).float().requires_grad_()
    feature = waves(2, 5, 4, 4, phase=1.0).float()
    teacher = tuple(waves(2, 3, 4, 4, phase=i).float() for i in (2, 3, 4))
    value = all_pairs_similarity((scores, feature, scores), teacher)
    assert value.item() == pytest.approx(cirkd_by_loops((scores, feature, scores), teacher), abs=1e-6)
    value.backward()
    assert scores.grad.abs().max() < 1


def test_number_and_shapes_of_maps_are_checked() -> None:
    maps = waves(2, 3, 4, 4), waves(2, 3, 4, 4)
    with pytest.raises(ValueError, match="need equal numbers of at least 1 feature maps: 2, 1"):
        pixel_similarity(maps, maps[:1])
    with pytest.raises(ValueError, match="need equal numbers of at least 2 feature maps: 1, 1"):
        pixel_similarity(maps[:1], maps[:1], include_first=False)
    with pytest.raises(ValueError, match="need equal numbers of at least 2 feature maps: 1, 1"):
        all_pairs_similarity(maps[:1], maps[:1])
    with pytest.raises(
        ValueError, match=r"need feature maps \(B, C, H, W\) of one batch: \(2, 3, 4, 4\), \(1, 3, 4, 4\)"
    ):
        pixel_similarity(maps, (maps[0], maps[1][:1]))
    with pytest.raises(ValueError, match="need one size, but have 4x4, 4x4, 4x4, 2x4; pixel_similarity resizes them"):
        all_pairs_similarity(maps, (maps[0], maps[1][:, :, ::2]))


def test_the_term_is_that_of_the_named_layers() -> None:
    own, other = (waves(2, 3, 4, 4), waves(2, 4, 2, 2)), (waves(2, 5, 4, 4, phase=1.0), waves(2, 6, 2, 2, phase=1.0))
    layers = {"student_layers": ("a", "b"), "teacher_layers": ("x", "y")}
    outputs = output(a=own[0], b=own[1]), output(x=other[0], y=other[1])
    (value,) = PSDLoss(include_first=False, **layers)(*outputs, TARGET).values()
    assert float(value) == pytest.approx(psd_by_loops(own, other, include_first=False), rel=1e-10)
    even = output(a=own[0], b=own[0] ** 2), output(x=other[0], y=other[0] ** 2)
    terms = PSDLoss(reduction="cirkd", **layers)(*even, TARGET)
    assert list(terms) == ["psd"]
    expected = cirkd_by_loops((own[0], own[0] ** 2), (other[0], other[0] ** 2))
    assert float(terms["psd"]) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("student", "teacher", "own", "other"),
    [
        (Segmenter(2), Segmenter(3), (0, 1, 2), (0, 1, 2)),
        (Segmenter(2, (2, 2)), Segmenter(3, (2, 2, 1, 1)), (0, 1), (2, 3)),
        (Segmenter(2, (2, 2, 2, 1)), Segmenter(5, (4, 1, 1)), (1, 2, 3), (0, 1, 2)),
    ],
    ids=["wider", "deeper", "other stride"],
)
def test_networks_of_any_width_depth_and_stride_are_compared(
    student: Segmenter, teacher: Segmenter, own: tuple[int, ...], other: tuple[int, ...]
) -> None:
    loss = PSDLoss()
    terms = loss(*dense_outputs(loss, *segmenters(student, teacher)), dense_target())
    assert loss.features == Features(tuple(f"stages.{i}" for i in own), tuple(f"stages.{i}" for i in other))
    assert not list(loss.parameters())
    terms["psd"].backward()
    assert all(p.grad is not None and p.grad.any() for p in student.stages.parameters())


@pytest.mark.parametrize("auxiliary", [True, False])
def test_cirkd_reads_auxiliary_scores_where_there_are_any(auxiliary: bool) -> None:
    loss = PSDLoss(reduction="cirkd")
    student, teacher = segmenters(Segmenter(2, auxiliary=auxiliary), Segmenter(3, auxiliary=True))
    loss(*dense_outputs(loss, student, teacher), dense_target())["psd"].backward()
    first = "aux_classifier" if auxiliary else "classifier"
    assert loss.features == Features((first, "head", "classifier"), ("aux_classifier", "head", "classifier"))
    assert all(p.grad.isfinite().all() for p in student.network.parameters())


def test_settings_and_layers_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match="loss.reduction 'paperr': unknown; did you mean paper"):
        PSDLoss(reduction="paperr")
    with pytest.raises(InputError, match="loss.include_first=1: must be true or false"):
        PSDLoss(include_first=1)
    layers = {"student_layers": "stages.0", "teacher_layers": "stages.1"}
    words = "PSDLoss: compares residuals between layers, so it needs 2 layers, not 1"
    with pytest.raises(InputError, match=words):
        PSDLoss(include_first=False, **layers).prepare(*segmenters())
    with pytest.raises(InputError, match=words):
        PSDLoss(reduction="cirkd", **layers).prepare(*segmenters())
    words = (
        "PSDLoss: reduction=cirkd compares maps of one size, not classifier 4x4, head 4x4, classifier 4x4 of the "
        "student and classifier 8x8, head 8x8, classifier 8x8 of the teacher; reduction=paper resizes"
    )
    with pytest.raises(InputError, match=words):
        PSDLoss(reduction="cirkd").prepare(*segmenters(teacher=Segmenter(3, (2, 1, 1))))
    words = r"compares layer with layer, but reads 2 of the student \(stages.0, stages.1\) and 1 of the teacher"
    with pytest.raises(InputError, match=words):
        PSDLoss(student_layers=("stages.0", "stages.1"), teacher_layers="stages.2")
