"""Runs of one setting: the same but for their seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from stkd_lightning.reporting.run import Group, Run

# Options that are a method's own: two methods that differ in them are still compared.
OWN = ("loss.", "mixup.", "distilled")
NAMED = {"dataset", "experiment", "logger", "loss", "student", "teacher"}  # choices that are told otherwise
MOST = 4  # options that are told where nobody set any of those that differ


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that are equal but for their seeds.

    Attributes:
        group: data and networks.
        method: name of the loss.
        options: what distinguishes it from other settings of this method in this group, by dotted name.
        runs: one for each seed, in order.
    """

    group: Group
    method: str
    options: dict[str, str]
    runs: list[Run]

    @property
    def label(self) -> str:
        """The method and what distinguishes the setting."""
        return ", ".join([self.method, *(f"{name}={value}" for name, value in self.options.items())])

    def referred(self, others: "Iterable[Setting]", reference: str) -> "Setting | None":
        """Return the one setting of another method that this is to be compared with.

        Args:
            others: among which it is looked for.
            reference: name of the method.
        """
        if self.method == reference:
            return None
        same = [o for o in others if o.method == reference and o.group == self.group and _rest(o) == _rest(self)]
        if len(same) < 2:
            return same[0] if same else None
        same = [o for o in same if all(_agree(name, o, self) for name in {**o.options, **self.options})]
        return same[0] if len(same) == 1 else None


def _rest(setting: Setting) -> dict[str, str]:
    """Return all that is not a method's own."""
    return {k: v for k, v in setting.runs[0].options.items() if not k.startswith(OWN)}


def _agree(name: str, one: Setting, other: Setting) -> bool:
    """Return whether an option has one value in both, or is there in one of them only."""
    values = [s.options.get(name, s.runs[0].options.get(name)) for s in (one, other)]
    return None in values or values[0] == values[1]


def rounded(value: str) -> str:
    """Return a number that was drawn, such as 0.5488135039, with four digits; anything else as it is."""
    try:
        return f"{float(value):.4g}" if "." in value else value
    except ValueError:
        return value


def settings(runs: Iterable[Run]) -> list[Setting]:
    """Sort runs by what shapes their results; of two of one setting and seed the later one counts.

    Args:
        runs: finished.

    Returns:
        The settings in the order of their first runs.
    """
    every = list(runs)
    of_method: dict[tuple[Group, str], list[Run]] = {}
    for run in every:
        of_method.setdefault((run.group, run.method), []).append(run)
    found = [s for (group, method), own in of_method.items() for s in _settings(group, method, own)]
    first = {id(run): i for i, run in enumerate(every)}
    return sorted(found, key=lambda setting: min(first[id(run)] for run in setting.runs))


def _settings(group: Group, method: str, runs: Sequence[Run]) -> list[Setting]:
    names = sorted({name for run in runs for name in run.options})
    differing = [n for n in names if len({run.options.get(n) for run in runs}) > 1]
    told = _told(runs, differing)
    by_values: dict[tuple[str | None, ...], dict[int, Run]] = {}
    for run in runs:
        by_values.setdefault(tuple(run.options.get(n) for n in differing), {})[run.seed] = run
    found = [
        Setting(group, method, _values(next(iter(own.values())), told), [own[seed] for seed in sorted(own)])
        for own in by_values.values()
    ]
    if len({setting.label for setting in found}) == len(found):
        return found
    return [replace(setting, options=_values(setting.runs[0], differing)) for setting in found]


def _told(runs: Sequence[Run], differing: Sequence[str]) -> list[str]:
    """Return by which names settings are told apart: options that somebody gave, and choices such as ``optimizer``.

    Options that follow another, as the teacher's rate follows the student's, are not worth telling.
    """
    given = dict.fromkeys(name for run in runs for name in run.overrides)
    choices = [g for g in given if g not in NAMED and any(n.startswith(f"{g}.") for n in differing)]
    choices = [g for g in choices if len({run.overrides.get(g) for run in runs}) > 1]
    return [*choices, *(n for n in differing if n in given)] or list(differing[:MOST])


def _values(run: Run, names: Iterable[str]) -> dict[str, str]:
    """Return a run's options and choices by name, as far as it has them."""
    values = {name: run.options.get(name, run.overrides.get(name)) for name in names}
    return {name: rounded(value) for name, value in values.items() if value is not None}
