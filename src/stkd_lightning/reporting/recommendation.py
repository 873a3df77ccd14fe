"""Recommendation of a student among the settings of one pair of networks, with reasons for caution."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from stkd_lightning.reporting.comparison import Row
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.reporting.run import Group, Run
from stkd_lightning.reporting.statistics import Spread

MANY = 8  # from more settings than this, the best one is probably lucky


@dataclass(frozen=True)
class Recommendation:
    """The recommended setting of a group, in words.

    Attributes:
        group: data and networks.
        setting: setting with the highest accuracy on validation images.
        run: run of this setting with the highest accuracy on validation images.
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
    """Choose the setting of one group that is best on validation images, and report its accuracy on test images.

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
    answer = (
        f"{setting.label} has the highest validation accuracy: {validation.percent()} % over {_seeds(row)} (last "
        f"students). Its selected students have {row.selected.percent()} % on test images{_beside_teacher(row, run)}."
    )
    equal = [s.label for s, _, v in candidates if v.mean == validation.mean and s is not setting]
    cautions = [f"Equal validation accuracy: {', '.join(equal)}."] * bool(equal)
    cautions += _cautions(row, len(candidates), reference)
    others = [(r, v) for _, r, v in candidates if r is not row]
    if row.method == reference and others:
        cautions += _runner_up(max(others, key=lambda other: other[1].mean)[0], reference)
    return Recommendation(setting.group, setting, run, answer, cautions)


def _seeds(row: Row) -> str:
    return f"{len(row.seeds)} seeds" if len(row.seeds) > 1 else "one seed"


def _beside_teacher(row: Row, run: Run) -> str:
    teacher = run.summary.teacher
    if teacher is None or not row.parameters:
        return ""
    times = teacher.parameters / row.parameters
    return f"; the teacher has {100 * run.score(teacher.test['last']):.2f} % with {times:.1f} times the parameters"


def _cautions(row: Row, settings: int, reference: str) -> list[str]:
    cautions = []
    if len(row.seeds) == 1:
        cautions.append("With one seed, a difference may be chance: run seed=0,1,2.")
    if row.method != reference:
        cautions += _against_reference(row.difference, reference)
    if settings > MANY:
        cautions.append(
            f"It is the best of {settings} settings on the same images, so its validation accuracy is too optimistic."
        )
    return cautions


def _against_reference(difference: Spread | None, reference: str) -> list[str]:
    if difference is None:
        return [f"There is no run of {reference} with the same seeds and settings to compare with."]
    half = difference.half_interval
    if half is None:
        return [f"It shares one seed with {reference}: the difference of {difference.points()} points may be chance."]
    points = f"{difference.points()} points (95 %)"
    if abs(difference.mean) <= half:
        return [f"The last students' difference to {reference} on test images, seed by seed, may be chance: {points}."]
    below = f"On test images the last students are below {reference}, seed by seed: {points}."
    return [below] if difference.mean < 0 else []


def _runner_up(row: Row, reference: str) -> list[str]:
    """Return a caution if the second-best setting may be as good as the reference, which is the best."""
    difference = row.difference
    half = difference.half_interval if difference else None
    if difference is None or half is None or abs(difference.mean) > half:
        return []
    return [
        f"{row.label} is second and may be as good: {difference.points()} points to {reference} (95 %) on test images."
    ]
