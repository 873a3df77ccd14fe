"""Which student to take of those with one pair of networks, and how far that can be believed."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from stkd_lightning.reporting.comparison import Row
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.reporting.run import Group, Run
from stkd_lightning.reporting.statistics import Spread

MANY = 8  # settings, of which the best is likely to be one that was lucky


@dataclass(frozen=True)
class Verdict:
    """An answer in words.

    Attributes:
        group: that it is about.
        setting: the one with the highest accuracy on validation images.
        run: the one of its seeds with the highest.
        answer: sentences.
        doubts: sentences, each a reason for caution; none where there is none to tell.
    """

    group: Group
    setting: Setting
    run: Run
    answer: str
    doubts: list[str]

    @property
    def command(self) -> str:
        """The shell command that takes the student out of its run."""
        folder = str(self.run.folder)
        # What is no plain word, Hydra wants in quotes, and the shell in others.
        named = folder if re.fullmatch(r"[\w./-]+", folder) else f"'{folder}'"
        return shlex.join(["python", "-m", "stkd_lightning.export", f"checkpoint={named}", "output=student"])


def verdict(settings: Sequence[Setting], rows: Sequence[Row], reference: str) -> Verdict | None:
    """Choose among the settings of one group by validation images, and say what test images make of it.

    Args:
        settings: of one group.
        rows: their figures, in the same order.
        reference: the method to which others are compared.

    Returns:
        ``None`` where nothing was held out to choose by.
    """
    judged = [(s, r, r.validation) for s, r in zip(settings, rows, strict=True) if r.validation]
    if not judged:
        return None
    score = settings[0].runs[0].summary.score
    best = max if score.higher else min
    setting, row, validation = best(judged, key=lambda found: found[2].mean)
    run = best(setting.runs, key=lambda r: r.score(r.summary.student.validation or {}))
    answer = (
        f"{setting.label} is highest on validation images, {validation.percent()} % over {_seeds(row)}, by the last "
        f"students; the selected ones have {row.selected.percent()} % on test images{_beside_teacher(row, run)}."
    )
    equal = [s.label for s, _, v in judged if v.mean == validation.mean and s is not setting]
    doubts = [f"Equally high: {', '.join(equal)}."] * bool(equal) + _doubts(row, len(judged), reference)
    others = [(r, v) for _, r, v in judged if r is not row]
    if row.method == reference and others:
        doubts += _runner_up(max(others, key=lambda found: found[1].mean)[0], reference)
    return Verdict(setting.group, setting, run, answer, doubts)


def _seeds(row: Row) -> str:
    return f"{len(row.seeds)} seeds" if len(row.seeds) > 1 else "one seed"


def _beside_teacher(row: Row, run: Run) -> str:
    teacher = run.summary.teacher
    if teacher is None or not row.parameters:
        return ""
    times = teacher.parameters / row.parameters
    return f", the teacher {100 * run.score(teacher.test['last']):.2f} % with {times:.1f} times the parameters"


def _doubts(row: Row, settings: int, reference: str) -> list[str]:
    doubts = []
    if len(row.seeds) == 1:
        doubts.append("One seed cannot tell a difference from chance: run seed=0,1,2.")
    if row.method != reference:
        doubts += _against(row.difference, reference)
    if settings > MANY:
        doubts.append(f"As the best of {settings} settings on the same images, its validation accuracy flatters it.")
    return doubts


def _against(difference: Spread | None, reference: str) -> list[str]:
    if difference is None:
        return [f"There is no run of {reference} with the same seeds and settings to compare it with."]
    half = difference.half_interval
    if half is None:
        return [f"It has one seed in common with {reference}: {difference.points()} points, which may be chance."]
    words = f"{difference.points()} points (95 %)"
    if abs(difference.mean) <= half:
        return [f"The last students' difference to {reference} on test images, seed by seed, may be chance: {words}."]
    below = f"On test images the last students are below {reference}, seed by seed: {words}."
    return [below] if difference.mean < 0 else []


def _runner_up(row: Row, reference: str) -> list[str]:
    """Say where the next best setting cannot be told from the reference, which is the best."""
    difference = row.difference
    half = difference.half_interval if difference else None
    if difference is None or half is None or abs(difference.mean) > half:
        return []
    return [
        f"{row.label}, the next, may be as good: {difference.points()} points to {reference} (95 %) on test images."
    ]
