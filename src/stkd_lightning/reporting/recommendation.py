"""Recommendation of a student among the settings of one pair of networks, with reasons for caution."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from stkd_lightning.reporting.comparison import Row
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.reporting.run import Group, Run
from stkd_lightning.reporting.statistics import FEWEST, IMAGES, Spread, image_interval, normal_interval
from stkd_lightning.reporting.summary import Figures
from stkd_lightning.tasks.base import Score

MANY = 8  # from more settings than this, the best one is probably lucky


@dataclass(frozen=True)
class Recommendation:
    """The recommended setting of a group, in words.

    Attributes:
        group: data and networks.
        setting: setting with the best score on validation images.
        run: run of this setting with the best score on validation images.
        answer: the recommendation.
        cautions: sentences, each a reason for caution; may be empty.
    """

    group: Group
    setting: Setting
    run: Run
    answer: str
    cautions: list[str]

    @property
    def command(self) -> str:
        """The shell command that exports the student."""
        folder = str(self.run.folder)
        # Hydra needs quotes around other characters; shlex adds the shell's quotes.
        quoted = folder if re.fullmatch(r"[\w./-]+", folder) else f"'{folder}'"
        return shlex.join(["python", "-m", "stkd_lightning.export", f"checkpoint={quoted}", "output=student"])


def recommend(settings: Sequence[Setting], rows: Sequence[Row], reference: str) -> Recommendation | None:
    """Choose the setting of one group that is best on validation images, and report its score on test images.

    Args:
        settings: settings of one group.
        rows: rows of these settings, in the same order.
        reference: name of the method to compare with.

    Returns:
        The recommendation; ``None`` without validation images.
    """
    candidates = [(s, r, r.validation) for s, r in zip(settings, rows, strict=True) if r.validation]
    if not candidates:
        return None
    score = settings[0].runs[0].summary.score
    best = max if score.higher else min
    setting, row, validation = best(candidates, key=lambda candidate: candidate[2].mean)
    run = best(setting.runs, key=lambda r: r.score(r.summary.student.validation or {}))
    highest = "highest" if score.higher else "lowest"
    answer = (
        f"{setting.label} has the {highest} validation {score.label}: {_value(row, validation)} over {_seeds(row)}. "
        f"On test images it has {_value(row, row.last)}{_beside_teacher(row, run)}. These are figures of the last "
        f"students. The selected students, which are exported, have {_value(row, row.selected)} on test images."
    )
    equal = [s.label for s, _, v in candidates if v.mean == validation.mean and s is not setting]
    cautions = [f"Equal validation {score.label}: {', '.join(equal)}."] * bool(equal)
    cautions += _cautions(row, run, len(candidates), reference)
    others = [(r, v) for _, r, v in candidates if r is not row]
    if row.method == reference and others:
        cautions += _runner_up(best(others, key=lambda other: other[1].mean)[0], reference)
    return Recommendation(setting.group, setting, run, answer, cautions)


def _seeds(row: Row) -> str:
    return _seeds_in_words(len(row.seeds))


def _seeds_in_words(number: int) -> str:
    return {1: "one seed", 2: "two seeds"}.get(number, f"{number} seeds")


def _value(row: Row, score: Spread) -> str:
    """Return a score with its unit."""
    return f"{row.text(score)} {row.score.unit}".rstrip()


def _difference(row: Row) -> str:
    """Return the difference to the reference with its unit, which is points for shares."""
    return f"{row.difference_text()} {'points' if row.score.unit == '%' else row.score.unit}".rstrip()


def _few_images(run: Run, row: Row) -> list[str]:
    """Return a caution for each split with few images, with the interval that their number alone gives."""
    student = run.summary.student
    splits = {"validation": (row.validation, student.validation or {}), "test": (row.last, student.test["last"])}
    few = [(split, count) for split, count in run.summary.images.items() if split in splits and 0 < count < IMAGES]
    return [
        f"There are only {count} {split} images: their choice alone gives an {interval} points (95 %)."
        for split, count in few
        if (interval := _interval(*splits[split], count, run.summary.score))
    ]


def _interval(mean: Spread | None, figures: Figures, count: int, score: Score) -> str:
    """Return the interval of a mean over images in words; nothing if the figures have no mean over images."""
    if score.name == "accuracy":
        share, half = mean.mean if mean else 0.0, image_interval(mean.mean if mean else 0.0, count)
        name = "accuracy"
    elif {"image_quality", "quality_variance"} <= figures.keys():
        share, half = figures["image_quality"], normal_interval(figures["quality_variance"], count)
        name = "image IoU"
    else:
        return ""
    return f"{name} of {100 * share:.2f} % an interval of ± {100 * half:.1f}"


def _beside_teacher(row: Row, run: Run) -> str:
    teacher = run.summary.teacher
    if teacher is None or not teacher.test or not row.parameters:
        return ""
    times, score = teacher.parameters / row.parameters, run.score(teacher.test["last"])
    value = f"{row.score.factor * score:.2f} {row.score.unit}".rstrip()
    return f"; the teacher has {value} with {times:.1f} times the parameters"


def _cautions(row: Row, run: Run, settings: int, reference: str) -> list[str]:
    cautions = []
    if len(row.seeds) < FEWEST:
        cautions.append(f"With {_seeds(row)}, a difference may be chance, and no interval is shown: run seed=0,1,2.")
    cautions += _few_images(run, row)
    if row.method != reference:
        cautions += _against_reference(row, reference)
    if settings > MANY:
        cautions.append(
            f"It is the best of {settings} settings on the same images, so its validation {row.score.label} is too "
            "optimistic."
        )
    return cautions


def _against_reference(row: Row, reference: str) -> list[str]:
    difference = row.difference
    if difference is None:
        return [f"There is no run of {reference} with the same seeds and settings to compare with."]
    half = difference.half_interval
    if half is None:
        shared = _seeds_in_words(difference.n)
        return [f"It shares {shared} with {reference}: the difference of {_difference(row)} may be chance."]
    points = f"{_difference(row)} (95 %)"
    if abs(difference.mean) <= half:
        return [f"The last students' difference to {reference} on test images, seed by seed, may be chance: {points}."]
    side = "below" if row.score.higher else "above"
    worse = f"On test images the last students are {side} {reference}, seed by seed: {points}."
    return [worse] if (difference.mean < 0) == row.score.higher else []


def _runner_up(row: Row, reference: str) -> list[str]:
    """Return a caution if the second-best setting may be as good as the reference, which is the best."""
    difference = row.difference
    half = difference.half_interval if difference else None
    if difference is None or half is None or abs(difference.mean) > half:
        return []
    return [f"{row.label} is second and may be as good: {_difference(row)} to {reference} (95 %) on test images."]
