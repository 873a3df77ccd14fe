"""Groups of runs with equal settings and different seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from stkd_lightning.reporting.diagnostics_file import D
from stkd_lightning.reporting.run import Group, Run
from stkd_lightning.utilities.text import printable

# Options that belong to a method: methods with different values are still compared.
METHOD_OPTIONS = ("loss.", "mixup.", "distilled", "feature_distillation", "pretraining", "teacher.temperature")
NOT_IN_LABELS = {"dataset", "experiment", "logger", "loss", "student", "teacher"}  # shown elsewhere, or no setting
LABEL = 500  # characters of a label
MOST = 4  # options in a label if the user set none of those that differ


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs that differ only in their seeds.

    Attributes:
        group: data and networks.
        method: name of the loss.
        options: options that distinguish it from other settings of this method in this group, by dotted name.
        runs: one run for each seed, in the order of the seeds.
    """

    group: Group
    method: str
    options: dict[str, str]
    runs: list[Run]

    @property
    def label(self) -> str:
        """The method and the options that distinguish the setting."""
        text = ", ".join([self.method, *(f"{name}={value}" for name, value in self.options.items())])
        return printable(text if len(text) <= LABEL else f"{text[:LABEL]}...")

    def diagnostics_of(self, kind: type[D]) -> list[D]:
        """Return the diagnostics of its runs that are of a kind and can be read."""
        return [diagnostics for run in self.runs if (diagnostics := run.diagnostics_of(kind))]

    def find_reference(self, others: "Iterable[Setting]", reference: str) -> "Setting | None":
        """Return the setting of the reference method to compare with; ``None`` if there is none, or more than one.

        Args:
            others: settings to search.
            reference: name of the reference method.
        """
        if self.method == reference:
            return None
        same = [o for o in others if o.method == reference and o.group == self.group and _shared(o) == _shared(self)]
        if len(same) < 2:
            return same[0] if same else None
        same = [o for o in same if all(_agree(name, o, self) for name in {**o.options, **self.options})]
        return same[0] if len(same) == 1 else None


def _shared(setting: Setting) -> dict[str, str]:
    """Return the options that do not belong to the method."""
    return {k: v for k, v in setting.runs[0].options.items() if not k.startswith(METHOD_OPTIONS)}


def _agree(name: str, left: Setting, right: Setting) -> bool:
    """Return whether an option has equal values in two settings, or is missing in one of them."""
    values = [s.options.get(name, s.runs[0].options.get(name)) for s in (left, right)]
    return None in values or values[0] == values[1]


def rounded(value: str) -> str:
    """Round a number with a decimal point to four digits; return other text unchanged."""
    try:
        return f"{float(value):.4g}" if "." in value else value
    except ValueError:
        return value


def settings(runs: Iterable[Run]) -> list[Setting]:
    """Group runs by the options that change their results; of two runs with equal setting and seed, keep the later.

    Args:
        runs: finished runs.

    Returns:
        The settings, in the order of their first runs.
    """
    all_runs = list(runs)
    of_method: dict[tuple[Group, str], list[Run]] = {}
    for run in all_runs:
        of_method.setdefault((run.group, run.method), []).append(run)
    grouped = [s for (group, method), members in of_method.items() for s in _settings(group, method, members)]
    position = {id(run): i for i, run in enumerate(all_runs)}
    return sorted(grouped, key=lambda setting: min(position[id(run)] for run in setting.runs))


def _settings(group: Group, method: str, runs: Sequence[Run]) -> list[Setting]:
    names = sorted({name for run in runs for name in run.options})
    differing = [n for n in names if len({run.options.get(n) for run in runs}) > 1]
    labelled = _label_names(runs, differing)
    by_values: dict[tuple[str | None, ...], dict[int, Run]] = {}
    for run in runs:
        by_values.setdefault(tuple(run.options.get(n) for n in differing), {})[run.seed] = run
    named = [
        Setting(group, method, _values(next(iter(seeds.values())), labelled), [seeds[seed] for seed in sorted(seeds)])
        for seeds in by_values.values()
    ]
    if len({setting.label for setting in named}) == len(named):
        return named
    return [replace(setting, options=_values(setting.runs[0], differing)) for setting in named]


def _label_names(runs: Sequence[Run], differing: Sequence[str]) -> list[str]:
    """Return the names to show in labels: options that the user set, and choices such as ``optimizer``.

    Options that follow another one are left out, such as the teacher's learning rate, which follows the student's.
    """
    given = dict.fromkeys(name for run in runs for name in run.overrides)
    choices = [g for g in given if g not in NOT_IN_LABELS and any(n.startswith(f"{g}.") for n in differing)]
    choices = [g for g in choices if len({run.overrides.get(g) for run in runs}) > 1]
    return [*choices, *(n for n in differing if n in given)] or list(differing[:MOST])


def _values(run: Run, names: Iterable[str]) -> dict[str, str]:
    """Return the values of a run's options and choices by name; names without a value are left out."""
    values = {name: run.options.get(name, run.overrides.get(name)) for name in names}
    return {name: rounded(value) for name, value in values.items() if value is not None}
