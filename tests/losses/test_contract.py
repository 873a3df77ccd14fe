"""What every loss between two tensors must hold; what only one loss holds is in the loss's own file, with its loops."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from stkd_lightning import losses
from stkd_lightning.losses import Features, Loss
from stkd_lightning.losses.feature_loss import FeatureLoss
from stkd_lightning.tasks.types import MixedTarget, ModelOutput
from stkd_lightning.utilities.errors import InputError
from tests.losses.maps import array, mean_square, pooled, prepared
from tests.losses.properties import (
    Function,
    Loops,
    check_definition,
    check_finite,
    check_gradient,
    check_half_precision,
    check_order,
    probes,
    waves,
)
from tests.losses.test_at import at_by_loops
from tests.losses.test_cat_kd import transfer_by_loops
from tests.losses.test_cckd import cckd_by_loops
from tests.losses.test_crd import contrast, directions
from tests.losses.test_csd import cirkd_by_loops as csd_cirkd_by_loops
from tests.losses.test_csd import csd_by_loops
from tests.losses.test_cwd import cwd_by_loops
from tests.losses.test_dist import relation_by_loops
from tests.losses.test_dkd import decoupled_by_loops, one_of, two_of
from tests.losses.test_ifvd import ifvd
from tests.losses.test_kd import kl_by_loops
from tests.losses.test_logit_standardization import standardized_kl, standardized_kl_by_loops
from tests.losses.test_nkd import normalized_by_loops, one_label, two_labels
from tests.losses.test_nst import nst_by_loops
from tests.losses.test_pixel_kd import pixel_kd_by_loops
from tests.losses.test_pkt import pkt_by_loops
from tests.losses.test_psd import cirkd_by_loops as psd_cirkd_by_loops
from tests.losses.test_psd import even_stages, psd_by_loops, stages
from tests.losses.test_reviewkd import context_by_loops
from tests.losses.test_rkd import ANGLE, DISTANCE, rkd_by_loops
from tests.losses.test_simkd import simkd
from tests.losses.test_skd import skd_by_loops
from tests.losses.test_sp import sp_by_loops
from tests.losses.test_vid import information_by_loops
from tests.losses.test_wttm import matching_by_loops

Shape = tuple[int, ...]
Pair = tuple[Tensor, Tensor]  # of the student and of the teacher
Refusal = tuple[Shape, Shape, type[Exception], str]


def pair(student: Shape, teacher: Shape | None = None, scale: float = 1.0) -> Pair:
    return scale * waves(*student), scale * waves(*(teacher or student), phase=1.0)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A function of a loss, and the inputs with which it is held to the contract.

    Args:
        function: of two tensors, with a scalar value.
        loops: the same from the paper, as loops.
        definition: where the value is that of the loops, to ``exact`` in float64 and 1e-5, or ``rounding``, in float32.
        gradient: where the gradient is that of finite differences, and none reaches the teacher.
        order: where another order of the samples changes nothing.
        half: where half precision costs no more than ``relative`` and ``absolute``.
        finite: where value and gradient are finite.
        zero: where the value is 0, to ``within``.
        refused: shapes, and the error and its words.
    """

    function: Function
    loops: Loops | None = None
    definition: tuple[Pair, ...] = ()
    exact: float = 1e-10
    rounding: float | None = None
    gradient: tuple[Pair, ...] = ()
    order: tuple[Pair, ...] = ()
    half: tuple[Pair, ...] = ()
    relative: float = 0.05
    absolute: float = 1e-3
    finite: tuple[Pair, ...] = ()
    zero: tuple[Pair, ...] = ()
    within: float = 1e-12
    refused: tuple[Refusal, ...] = ()


def degenerate(*samples: list[float], constant: float) -> tuple[Pair, ...]:
    """Samples of which one is zero, equal or opposite to the first; and all samples equal."""
    pairs = []
    for sample in samples:
        features, others = torch.tensor([[1.0, 2.0, 3.0], sample, [0.5, -1.0, 2.0]]), waves(3, 4, dtype=torch.float32)
        equal = torch.full((3, 4), constant)
        pairs += [(features, others), (others, features), (equal, features), (features, equal)]
    return tuple(pairs)


def constant_maps(value: float, *place: int) -> tuple[Pair, ...]:
    """Maps that are constant at a place of the student's (of the teacher's, its next), and everywhere."""
    student, teacher = (features.float() for features in pair((2, 3, 2, 2)))
    student[place], teacher[tuple(i + 1 for i in place)] = value, value
    return (student, teacher), (torch.full((2, 3, 2, 2), value), teacher)


ZERO_EQUAL_OPPOSITE = ([0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [-1.0, -2.0, -3.0])
PAIRS_REFUSED: tuple[Refusal, ...] = (
    ((1, 3), (1, 3), InputError, "a loss over pairs of samples needs a batch of at least 2, this one has 1"),
    ((4, 3), (2, 3), ValueError, r"student and teacher features need one batch: \(4, 3\), \(2, 3\)"),
)
MAPS_REFUSED: tuple[Refusal, ...] = (
    ((4, 3), (4, 3), ValueError, r"need feature maps \(B, C, H, W\) of one batch: \(4, 3\), \(4, 3\)"),
    ((4, 3, 2, 2), (4, 3), ValueError, r"need feature maps .* \(4, 3, 2, 2\), \(4, 3\)"),
    ((4, 3, 2, 2), (1, 3, 2, 2), ValueError, r"of one batch: \(4, 3, 2, 2\), \(1, 3, 2, 2\)"),
)
LOGITS_REFUSED: Refusal = ((4, 3), (1, 3), ValueError, r"equal shape \(B, K\): \(4, 3\), \(1, 3\)")

PAIRS: dict[str, Any] = {
    "order": (pair((6, 3), (6, 2, 2, 2)),),
    "half": (pair((8, 4, 2, 2), (8, 10)),),
    "relative": 0.02,
    "refused": PAIRS_REFUSED,
}
MAPS: dict[str, Any] = {
    "definition": (
        pair((1, 1, 2, 2), (1, 3, 2, 2)), pair((3, 2, 4, 4), (3, 5, 2, 2)), pair((2, 3, 3, 2), (2, 2, 5, 6)),
        pair((2, 2, 3, 5), (2, 4, 4, 3)),
    ),
    "gradient": (pair((2, 2, 2, 2), (2, 3, 2, 2)), pair((2, 2, 3, 3), (2, 3, 2, 2))),  # as large, and pooled
    "order": (pair((5, 3, 2, 2), (5, 2, 2, 2)),),
    "half": (pair((4, 8, 4, 4), (4, 6, 2, 2)),),
    "absolute": 0.0,
    "refused": MAPS_REFUSED,
}  # fmt: skip
SAME_MAPS: dict[str, Any] = {
    "order": (pair((6, 2, 3, 3)),),
    "zero": ((waves(2, 3, 4, 4), waves(2, 3, 4, 4)),),
    "within": 0.0,
}
GRADED = pair((4, 2, 2, 1), (4, 3))
VECTORS_AND_MAPS = (pair((2, 2), (2, 3)), pair((5, 3), (5, 2, 2, 2)), pair((4, 3, 1, 1), (4, 6)))


def map_loops(loops: Callable[[Any, Any], float]) -> Loops:
    return lambda student, teacher: loops(array(student), array(teacher))


def smaller_by_loops(student: Tensor, teacher: Tensor) -> float:
    side = min(student.shape[2], teacher.shape[2])
    return mean_square(pooled(array(student), side), pooled(array(teacher), side))


def variances(features: Tensor) -> Tensor:
    return torch.linspace(0.3, 6.0, features.shape[1], dtype=torch.float64)


def decoupling(correct: Callable[[int, int], Tensor], **options: Any) -> Function:
    return lambda s, t: losses.decoupled(s, t, correct(*s.shape), **options)


def dkd(correct: Callable[[int, int], Tensor]) -> dict[str, Case]:
    weights = {"temperature": 3.0, "target_weight": 0.7}
    shapes = ((1, 2), (2, 3), (5, 7), (8, 100))
    extremes = tuple(scale * waves(4, classes).float() for scale in (0.0, 1e4) for classes in (5, 2))
    return {
        f"dkd, {correct.__name__}": Case(
            function=decoupling(correct),
            gradient=tuple(pair((4, classes)) for classes in (2, 3, 6)),
            half=(pair((8, 10), scale=4),),
            finite=tuple((logits, -logits) for logits in extremes),
            zero=((5 * waves(4, 6), 5 * waves(4, 6) + 2),),
            refused=(LOGITS_REFUSED,),
        ),
        f"dkd, {correct.__name__}, weighted": Case(
            function=decoupling(correct, **weights, incorrect_weight=6.0),
            loops=lambda s, t: decoupled_by_loops(s, t, correct(*s.shape), **weights, other_weight=6.0),
            definition=tuple(pair(shape, scale=5) for shape in shapes),
        ),
        f"dkd, {correct.__name__}, alike": Case(
            function=decoupling(lambda batch, classes: correct(1, classes).expand(batch, classes)),
            order=(pair((6, 5)),),
        ),
    }


def dist(name: str, relation: Callable[..., Tensor], over_classes: bool) -> dict[str, Case]:
    cases = {
        f"dist, {name}": Case(
            function=relation,
            gradient=(pair((2, 3)), pair((4, 5))),
            order=(pair((6, 4)),),
            half=(pair((8, 10), scale=4),),
            finite=tuple((scale * waves(4, 3).float(), waves(4, 3, phase=1.0).float()) for scale in (0.0, 1e4)),
            zero=((4 * waves(5, 6) + 1, 4 * waves(5, 6)),),
            refused=(
                ((4, 3), (4, 1), ValueError, r"need one equal shape \(B, K\): \(4, 3\), \(4, 1\)"),
                ((4, 3), (1, 3), ValueError, r"\(4, 3\), \(1, 3\)"),
            ),
        )
    }
    for temperature in (1.0, 4.0):
        cases[f"dist, {name}, {temperature}"] = Case(
            function=partial(relation, temperature=temperature),
            loops=partial(relation_by_loops, temperature=temperature, over_classes=over_classes),
            definition=tuple(pair(shape, scale=4) for shape in ((2, 3), (3, 2), (5, 7), (16, 100))),
            rounding=1e-5,
        )
    return cases


def standardized(temperature: float) -> Case:
    shapes = ((2, 2), (1, 3), (5, 7), (8, 100))
    return Case(
        function=partial(standardized_kl, temperature=temperature),
        loops=partial(standardized_kl_by_loops, temperature=temperature),
        definition=tuple((waves(*shape), 5 * waves(*shape, phase=1.0) + 3) for shape in shapes),
    )


def matching(temperature: float, weighted: bool) -> Case:
    options: dict[str, Any] = {"temperature": temperature, "weighted": weighted}
    return Case(
        function=partial(losses.transformed_matching, **options),
        loops=partial(matching_by_loops, **options),
        definition=tuple(pair(shape, scale=4) for shape in ((1, 2), (5, 7), (8, 100))),
        gradient=(pair((2, 3)), pair((3, 6), scale=3)),
        order=(pair((6, 4)),),
        half=(pair((8, 10), scale=4),),
        finite=tuple((scale * waves(4, 5).float(), -scale * waves(4, 5).float()) for scale in (0.0, 1e4)),
        zero=((3 * waves(4, 6) + 2, 3 * temperature * waves(4, 6)),),
        refused=(LOGITS_REFUSED,),
    )


def nkd(target: Callable[[int, int], MixedTarget]) -> dict[str, Case]:
    options = {"temperature": 3.0, "incorrect_weight": 1.5}
    extremes = tuple(scale * waves(4, classes).float() for scale in (0.0, 1e4) for classes in (5, 2))
    return {
        f"nkd, {target.__name__}": Case(
            function=lambda s, t: losses.normalized_kd(s, t, target(*s.shape)),
            gradient=tuple(pair((4, classes)) for classes in (2, 3, 6)),
            half=(pair((8, 10), scale=4),),
            finite=tuple((logits, -logits) for logits in extremes),
            refused=(LOGITS_REFUSED,),
        ),
        f"nkd, {target.__name__}, weighted": Case(
            function=lambda s, t: losses.normalized_kd(s, t, target(*s.shape), **options),
            loops=lambda s, t: normalized_by_loops(s, t, target(*s.shape), **options),
            definition=tuple(pair(shape, scale=5) for shape in ((1, 2), (2, 3), (5, 7), (8, 100))),
        ),
    }


SCORES = pair((2, 3, 4, 6), scale=3)
RESIZED = (SCORES, pair((2, 2, 5, 3), (2, 2, 3, 4), scale=3), pair((1, 4, 3, 3), (1, 4, 6, 7), scale=3))
SCORES_REFUSED: tuple[Refusal, ...] = (
    *MAPS_REFUSED,
    ((2, 3, 4, 4), (2, 1, 4, 4), ValueError, r"equal numbers of channels: \(2, 3, 4, 4\), \(2, 1, 4, 4\)"),
)
POSITIONS_REFUSED: tuple[Refusal, ...] = (
    *MAPS_REFUSED,
    ((2, 3, 4, 4), (2, 3, 1, 4), ValueError, r"maps need one resolution: \(2, 3, 4, 4\), \(2, 3, 1, 4\)"),
)


def scores(function: Function, loops: Loops, *definition: Pair, refused: tuple[Refusal, ...] = ()) -> Case:
    """Scores of classes at positions; the loss does not change with the order of the samples, and is 0 at equality."""
    return Case(
        function=function,
        loops=loops,
        definition=definition,
        rounding=1e-6,
        gradient=(pair((2, 3, 3, 2), scale=2),),
        order=(pair((5, 3, 3, 4), scale=3),),
        half=(pair((4, 5, 6, 6), scale=3),),
        finite=tuple((scale * waves(2, 3, 4, 4).float(), waves(2, 3, 4, 4).float()) for scale in (0.0, 1e4)),
        zero=((waves(2, 3, 5, 4), waves(2, 3, 5, 4)),),
        refused=(*SCORES_REFUSED, *refused),
    )


def hierarchy(cut: Callable[[Tensor], tuple[Tensor, ...]], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of hierarchies of maps as one of two maps, from which they are cut."""
    return lambda student, teacher: function(cut(student), cut(teacher))


def attention(cut: Callable[[Tensor], tuple[Tensor, ...]], function: Callable[..., Any], loops: Any) -> Case:
    return Case(
        function=hierarchy(cut, function),
        loops=hierarchy(cut, loops),
        definition=(pair((2, 3, 5, 6), (2, 4, 5, 6)), pair((1, 2, 4, 4), (1, 6, 4, 4))),
        rounding=1e-6,
        gradient=(pair((2, 2, 4, 4), (2, 3, 4, 4)),),
        order=(pair((5, 3, 4, 4), (5, 2, 4, 4)),),
        half=(pair((4, 8, 6, 6), (4, 6, 6, 6)),),
        finite=tuple((scale * waves(2, 3, 4, 4).float(), waves(2, 3, 4, 4).float()) for scale in (0.0, 1e-12, 1e6)),
        zero=((waves(2, 3, 4, 4), waves(2, 3, 4, 4)),),
    )


DENSE: dict[str, Case] = {
    "psd": attention(stages, losses.pixel_similarity, psd_by_loops),
    "psd, cirkd": attention(even_stages, losses.all_pairs_similarity, psd_cirkd_by_loops),
    "csd": scores(losses.category_similarity, csd_by_loops, *RESIZED),
    "csd, cirkd": scores(
        losses.pooled_category_similarity, csd_cirkd_by_loops, SCORES, pair((2, 2, 5, 3), scale=3),
        refused=(((2, 3, 4, 4), (2, 3, 2, 4), ValueError, "need one size: .*; category_similarity resizes them"),),
    ),
    "cwd": scores(losses.channel_wise, cwd_by_loops, *RESIZED),
    "pixel kd": scores(losses.pixel_wise, pixel_kd_by_loops, *RESIZED),
    **{
        f"csd, {temperature}": Case(
            function=partial(losses.category_similarity, temperature=temperature),
            loops=partial(csd_by_loops, temperature=temperature),
            definition=(SCORES,),
        )
        for temperature in (0.5, 4.0)
    },
    "skd": Case(
        function=losses.pair_wise,
        loops=skd_by_loops,
        definition=(pair((2, 3, 4, 6), (2, 5, 4, 6)), pair((1, 2, 5, 3)), pair((3, 4, 2, 2))),
        rounding=1e-6,
        gradient=(pair((2, 2, 4, 4), (2, 3, 4, 4)),),
        order=(pair((5, 3, 4, 4), (5, 2, 4, 4)),),
        half=(pair((4, 8, 6, 6), (4, 6, 6, 6)),),
        finite=(*constant_maps(0.0, 0), *constant_maps(1.0, 0)),
        zero=((waves(2, 3, 4, 4), waves(2, 3, 4, 4)),),
        refused=POSITIONS_REFUSED,
    ),
    "ifvd": Case(
        function=ifvd,
        half=(pair((2, 8, 6, 6), (2, 6, 6, 6)),),
        finite=(*constant_maps(0.0, 0), *constant_maps(1.0, 0)),
        zero=((waves(2, 3, 4, 4), waves(2, 3, 4, 4)),),
        refused=POSITIONS_REFUSED,
    ),
}  # fmt: skip

CASES: dict[str, Case] = {
    **DENSE,
    "kd": Case(
        function=losses.softened_kl,
        loops=partial(kl_by_loops, temperature=4.0),
        definition=(pair((5, 7)),),
        exact=1e-12,
        gradient=(pair((3, 4)),),
        order=(pair((6, 4)),),
        half=(pair((8, 10)),),
        refused=(LOGITS_REFUSED,),
    ),
    "kd, temperature 3": Case(function=partial(losses.softened_kl, temperature=3.0), gradient=(pair((3, 4)),)),
    **dkd(one_of),
    **dkd(two_of),
    **dist("inter", losses.inter_class, True),
    **dist("intra", losses.intra_class, False),
    **{f"wttm, {options}": matching(*options) for options in ((5.0, True), (2.0, True), (10.0, False))},
    **nkd(one_label),
    **nkd(two_labels),
    "nkd, samples of equal labels": Case(
        function=lambda s, t: losses.normalized_kd(s, t, MixedTarget.unmixed(torch.ones(6, dtype=torch.int64))),
        order=(pair((6, 5)),),
    ),
    "logit standardization": Case(
        function=standardized_kl,
        gradient=(pair((2, 3)), pair((3, 6))),
        order=(pair((6, 4)),),
        half=(pair((8, 10), scale=4),),
        finite=(
            *(
                (scale * torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), waves(2, 3, dtype=torch.float32))
                for scale in (0.0, 1.0, 1e4, 1e15)
            ),
            (torch.tensor([[1e-30, 0.0, 0.0]]), waves(1, 3, dtype=torch.float32)),
        ),
        zero=((3 * waves(4, 5) - 2, waves(4, 5)),),
        refused=(LOGITS_REFUSED,),
    ),
    "logit standardization, 1.0": standardized(1.0),
    "logit standardization, 2.0": standardized(2.0),
    "sp": Case(
        function=losses.similarity_preserving,
        loops=sp_by_loops,
        definition=(
            pair((2, 1), (2, 3)),
            pair((4, 3), (4, 7)),
            pair((5, 2, 3, 3), (5, 4, 2, 2)),
            pair((3, 6), (3, 2, 4, 1)),
        ),
        gradient=(pair((4, 2, 2, 2), (4, 3)),),
        finite=degenerate(*ZERO_EQUAL_OPPOSITE, constant=0.0),
        **PAIRS,
    ),
    "pkt": Case(
        function=losses.probabilistic_transfer,
        loops=pkt_by_loops,
        definition=VECTORS_AND_MAPS,
        gradient=(GRADED,),
        finite=degenerate(*ZERO_EQUAL_OPPOSITE, [-1.0, -2.0, -3.0001], constant=0.0),
        **PAIRS,
    ),
    **{
        f"cckd, {options}": Case(
            function=partial(losses.correlation_congruence, **options),
            loops=partial(cckd_by_loops, **options),
            definition=VECTORS_AND_MAPS,
        )
        for options in ({"gamma": 1.5, "order": 1}, {"order": 5})
    },
    **{
        f"cckd, {kernel}": Case(
            function=partial(losses.correlation_congruence, kernel=kernel),
            loops=partial(cckd_by_loops, kernel=kernel),
            definition=VECTORS_AND_MAPS,
            gradient=(GRADED,),
            finite=degenerate(*ZERO_EQUAL_OPPOSITE, constant=0.0),
            **PAIRS,
        )
        for kernel in ("gaussian", "bilinear")
    },
    **{
        name: Case(
            function=function,
            loops=partial(rkd_by_loops, **weights),
            definition=(pair((3, 1), (3, 2)), pair((5, 3), (5, 7)), pair((4, 2, 2, 2), (4, 3, 1, 1))),
            gradient=(GRADED,),
            finite=degenerate(*ZERO_EQUAL_OPPOSITE, constant=1.0),
            **PAIRS,
        )
        for name, function, weights in (
            ("rkd", losses.relational, {}),
            ("rkd, distance", DISTANCE, {"distance_weight": 1.0, "angle_weight": 0.0}),
            ("rkd, angle", ANGLE, {"distance_weight": 0.0, "angle_weight": 1.0}),
        )
    },
    "rkd, angle by its default": Case(
        function=partial(losses.relational, distance_weight=0.0),
        loops=partial(rkd_by_loops, distance_weight=0.0),
        definition=(pair((3, 1), (3, 2)), pair((5, 3), (5, 7)), pair((4, 2, 2, 2), (4, 3, 1, 1))),
    ),
    "at": Case(
        function=losses.attention_transfer,
        loops=at_by_loops,
        relative=0.02,
        finite=(*constant_maps(0.0, 0), *constant_maps(1.0, 0)),
        **MAPS,
    ),
    **{
        f"cat_kd, normalize={normalize}": Case(
            function=partial(losses.class_attention_transfer, normalize=normalize),
            loops=partial(transfer_by_loops, normalize=normalize),
            definition=tuple(pair(shape) for shape in ((2, 3, 2, 2), (1, 5, 4, 4), (3, 2, 1, 1))),
            gradient=(pair((2, 3, 2, 2)),),
            order=(pair((4, 3, 2, 2)),),
            half=(pair((4, 3, 4, 4)),),
            finite=(*constant_maps(0.0, 0), *constant_maps(1.0, 0)),
            zero=((waves(2, 3, 2, 2), waves(2, 3, 2, 2)),),
            refused=(((4, 3, 2, 2), (1, 3, 2, 2), ValueError, r"one equal shape \(B, K, r, r\): \(4, 3, 2, 2\), \(1"),),
        )
        for normalize in (False, True)
    },
    "nst": Case(
        function=losses.neuron_selectivity,
        loops=nst_by_loops,
        finite=(*constant_maps(0.0, 0, 1), *constant_maps(1.0, 0, 1)),
        **MAPS,
    ),
    "fitnet": Case(
        function=losses.hint,
        loops=map_loops(mean_square),
        definition=tuple(pair(shape) for shape in ((2, 2), (3, 5), (2, 3, 4, 4), (1, 2, 5, 3))),
        gradient=(pair((2, 3, 2, 2)),),
        half=(pair((4, 3, 4, 4)),),
        refused=(((4, 3), (1, 3), ValueError, r"features need one shape: \(4, 3\), \(1, 3\)"),),
        **SAME_MAPS,
    ),
    "reviewkd": Case(
        function=losses.hierarchical_context,
        loops=map_loops(context_by_loops),
        definition=tuple(
            pair(shape) for shape in ((2, 3, 8, 8), (2, 2, 4, 4), (3, 2, 5, 7), (2, 2, 2, 2), (4, 3, 1, 1))
        ),
        gradient=(pair((2, 2, 5, 5)),),
        half=(pair((4, 3, 8, 8)),),
        refused=(((2, 3, 4, 4), (2, 1, 4, 4), ValueError, r"features need one shape: \(2, 3, 4, 4\), \(2, 1, 4, 4\)"),),
        **{**SAME_MAPS, "zero": ((waves(2, 3, 8, 8), waves(2, 3, 8, 8)),)},
    ),
    "simkd": Case(
        function=simkd,
        loops=smaller_by_loops,
        definition=tuple(
            pair((2, 3, own, own), (2, 3, other, other)) for own, other in ((4, 4), (4, 2), (2, 4), (3, 5))
        ),
        gradient=(pair((2, 2, 2, 2), (2, 2, 4, 4)),),
        half=(pair((4, 3, 4, 4)), pair((4, 3, 4, 4), (4, 3, 2, 2))),
        **SAME_MAPS,
    ),
    "vid": Case(
        function=losses.variational_information,
        order=(pair((6, 2, 3, 3)),),
        half=(pair((4, 3, 4, 4)),),
        refused=(((2, 3, 4, 4), (2, 1, 4, 4), ValueError, r"need one shape: \(2, 3, 4, 4\), \(2, 1, 4, 4\)"),),
    ),
    "vid, a variance for each channel": Case(
        function=lambda s, t: losses.variational_information(s, t, variance=variances(s)),
        loops=lambda s, t: information_by_loops(s, t, variances(s).tolist()),
        definition=tuple(pair(shape) for shape in ((2, 3, 4, 4), (1, 2, 5, 3), (4, 1, 1, 1))),
        gradient=(pair((2, 3, 2, 2)),),
    ),
    "crd": Case(
        function=contrast,
        half=((directions(8, 10), directions(8, 10, phase=1.0)),),
        finite=tuple((scale * torch.ones(4, 3), -torch.ones(4, 3)) for scale in (0.0, 1.0, 1e4)),
    ),
}


def each(part: str) -> pytest.MarkDecorator:
    """Parametrize a test by the inputs of one part of the contract."""
    parameters = [
        pytest.param(case, inputs, id=f"{name}-{i}")
        for name, case in CASES.items()
        for i, inputs in enumerate(getattr(case, part))
    ]
    return pytest.mark.parametrize(("case", "inputs"), parameters)


@each("definition")
def test_value_is_that_of_the_loops(case: Case, inputs: Pair) -> None:
    assert case.loops is not None
    check_definition(case.function, case.loops, *inputs, relative=case.exact, rounding=case.rounding)


@each("gradient")
def test_gradient_is_that_of_finite_differences(case: Case, inputs: Pair) -> None:
    check_gradient(case.function, *inputs)


@each("order")
def test_order_of_the_batch_does_not_matter(case: Case, inputs: Pair) -> None:
    check_order(case.function, *inputs)


@each("half")
def test_half_precision_is_raised(case: Case, inputs: Pair) -> None:
    check_half_precision(case.function, *inputs, relative=case.relative, absolute=case.absolute)


@each("finite")
def test_degenerate_inputs_give_finite_gradients(case: Case, inputs: Pair) -> None:
    check_finite(case.function, *inputs)


@each("zero")
def test_value_is_zero_at_the_teacher(case: Case, inputs: Pair) -> None:
    assert float(case.function(*inputs)) == pytest.approx(0, abs=case.within)


@each("refused")
def test_shapes_that_do_not_fit_are_named(case: Case, inputs: Refusal) -> None:
    student, teacher, error, words = inputs
    with pytest.raises(error, match=words):
        case.function(waves(*student), waves(*teacher))


RANGES: list[tuple[Callable[..., Loss], dict[str, Any], str]] = [
    (losses.KDLoss, {"alpha": 1.5}, r"loss.alpha=1.5: must be in \[0, 1\]; the nearest is 1"),
    (losses.KDLoss, {"alpha": -0.1}, "the nearest is 0"),
    (losses.KDLoss, {"alpha": float("nan")}, "must be in"),
    (losses.KDLoss, {"temperature": 0}, "loss.temperature=0: must be above 0"),
    (losses.KDLoss, {"temperature": "4"}, "loss.temperature='4': must be a number above 0"),
    (losses.DKDLoss, {"temperature": 0}, "loss.temperature=0: must be above 0"),
    (losses.DKDLoss, {"target_weight": -1}, "loss.target_weight=-1: must be at least 0"),
    (losses.DKDLoss, {"incorrect_weight": float("inf")}, "loss.incorrect_weight=inf: must be at least 0 and finite"),
    (losses.DKDLoss, {"warmup": 20}, r"loss.warmup=20: must be in \[0, 1\]; the nearest is 1"),
    (losses.DISTLoss, {"inter_weight": -1}, "loss.inter_weight=-1: must be at least 0"),
    (losses.DISTLoss, {"intra_weight": "2"}, "loss.intra_weight='2': must be a number of at least 0"),
    (losses.DISTLoss, {"temperature": 0}, "loss.temperature=0: must be above 0"),
    (losses.WTTMLoss, {"temperature": 0}, "loss.temperature=0: must be above 0"),
    (losses.WTTMLoss, {"weighted": 1.5}, "loss.weighted=1.5: must be true or false"),
    (losses.NKDLoss, {"temperature": 0}, "loss.temperature=0: must be above 0"),
    (losses.NKDLoss, {"incorrect_weight": -1}, "loss.incorrect_weight=-1: must be at least 0"),
    (losses.CTKDLoss, {"minimum_temperature": 0}, "loss.minimum_temperature=0: must be above 0"),
    (losses.CTKDLoss, {"temperature_range": -1}, "loss.temperature_range=-1: must be at least 0"),
    (losses.CTKDLoss, {"curriculum_epochs": 0}, "loss.curriculum_epochs=0: must be a whole number of at least 1"),
    (losses.CSDLoss, {"temperature": 0}, "loss.temperature=0: must be above 0"),
    (losses.CWDLoss, {"temperature": 0}, "loss.temperature=0: must be above 0"),
    (losses.CWDFeatureLoss, {"temperature": "4"}, "loss.temperature='4': must be a number above 0"),
    (losses.PixelKDLoss, {"temperature": 0}, "loss.temperature=0: must be above 0"),
    (losses.RKDLoss, {"distance_weight": -1}, "distance_weight=-1: must be at least 0 and finite; the nearest is 0"),
    (losses.RKDLoss, {"angle_weight": -1}, "loss.angle_weight=-1: must be at least 0 and finite; the nearest is 0"),
    (losses.CCKDLoss, {"kernel": "gausian"}, r"'gausian': unknown; did you mean gaussian\? all: bilinear, gaussian"),
    (losses.CCKDLoss, {"gamma": 0}, "loss.gamma=0: must be above 0"),
    (losses.CCKDLoss, {"order": 0}, "loss.order=0: must be a whole number of at least 1"),
    (losses.CCKDLoss, {"order": 1.5}, "loss.order=1.5: must be a whole number"),
    (losses.CCKDLoss, {"embedding_width": 0}, "loss.embedding_width=0: must be a whole number of at least 1"),
    (losses.CRDLoss, {"num_samples": 1}, "loss.num_samples=1: must be a whole number of at least 2"),
    (losses.CRDLoss, {"num_samples": 5, "negatives": 0}, "loss.negatives=0: must be a whole number of at least 1"),
    (losses.CRDLoss, {"num_samples": 5, "temperature": 0}, "loss.temperature=0: must be above 0"),
    (losses.CRDLoss, {"num_samples": 5, "momentum": 1.5}, r"loss.momentum=1.5: must be in \[0, 1\]"),
    (losses.CRDLoss, {"num_samples": 5, "width": 0.5}, "loss.width=0.5: must be a whole number of at least 1"),
    (losses.CRDLoss, {"num_samples": 5, "seed": -1}, "loss.seed=-1: must be a whole number of at least 0"),
]


@pytest.mark.parametrize(("loss", "arguments", "words"), RANGES)
def test_settings_out_of_range_are_named(loss: Callable[..., Loss], arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        loss(**arguments)


@pytest.mark.parametrize(
    "loss",
    [losses.KDLoss, losses.DKDLoss, losses.DISTLoss, losses.STKDLoss, losses.WTTMLoss, losses.NKDLoss, losses.CTKDLoss],
)
def test_missing_teacher_is_named(loss: Callable[[], Loss]) -> None:
    with pytest.raises(ValueError, match=f"{loss.__name__} needs a teacher"):
        loss()(ModelOutput(waves(2, 3)), None, MixedTarget.unmixed(torch.tensor([0, 1])))


STAGES = ("layer1", "layer2", "layer3")


@pytest.mark.parametrize(
    ("loss", "layers", "smallest_batch"),
    [
        (losses.SPLoss, ("layer3",), 2),
        (losses.PKTLoss, ("avgpool",), 2),
        (losses.RKDLoss, ("avgpool",), 3),
        (losses.CCKDLoss, ("avgpool",), 2),
        (losses.ATLoss, STAGES, 1),
        (losses.NSTLoss, STAGES, 1),
    ],
)
def test_default_layers_are_compared_by_no_parameters(
    loss: Callable[[], FeatureLoss], layers: tuple[str, ...], smallest_batch: int
) -> None:
    fitted = loss()
    fitted.prepare(*probes())
    assert fitted.features == Features(layers, layers)
    assert fitted.smallest_batch == smallest_batch
    assert not list(fitted.parameters())


@pytest.mark.parametrize(
    ("build", "relative"), [(losses.FitNetLoss, 0.02), (losses.VIDLoss, 0.02), (losses.ReviewKDLoss, 0.05)]
)
def test_learned_losses_read_features_in_half_precision(build: Callable[[], FeatureLoss], relative: float) -> None:
    loss, target = build(), MixedTarget.unmixed(torch.tensor([0, 1]))
    own, other = prepared(loss, "resnet8", "resnet14")
    (exact,) = loss(own, other, target).values()
    with torch.autocast("cpu", torch.bfloat16):
        (value,) = loss(own, other, target).values()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact, rtol=relative, atol=0)
