"""The jobs of a sweep: single overrides from lists, ranges, patterns and intervals of values."""

from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from stkd_lightning.commands.config.compose import UNREADABLE, all_choices, groups, loader_of
from stkd_lightning.commands.config.hints import several_values, unreadable
from stkd_lightning.utilities.errors import InputError


def jobs(
    overrides: list[str],
    swept: dict[str, str],
    *,
    multirun: bool = True,
    intervals: bool = True,
    config_dir: str | None = None,
) -> list[list[str]]:
    """Return overrides of single jobs that contain every value of a sweep, and both ends of every interval.

    There are as many jobs as the longest list has values, not their product: each value is checked by itself.

    Args:
        overrides: as on the command line.
        swept: overrides that the sweeper of the configuration adds.
        multirun: whether the command is a sweep; else each option has one value.
        intervals: whether the sweeper can draw values from an interval.
        config_dir: a user's folder of additional configurations, whose choices a pattern can match.

    Raises:
        InputError: an override cannot be read, or has several values without a sweep; no value can be drawn from an
            interval, or a pattern matches no choice.
    """
    values = _values(overrides, swept, multirun=multirun, intervals=intervals, config_dir=config_dir)
    length = max(map(len, values), default=1)
    return [[v[min(i, len(v) - 1)] for v in values] for i in range(length)]


def combinations(overrides: list[str], swept: dict[str, str], *, config_dir: str | None = None) -> list[list[str]]:
    """Return the overrides of all jobs of a sweep without intervals; arguments as in ``jobs``."""
    # Of two values of an option the sweeper takes the last.
    by_option = {values[0].partition("=")[0]: values for values in _values(overrides, swept, config_dir=config_dir)}
    return [list(job) for job in product(*by_option.values())]


def _values(
    overrides: list[str],
    swept: dict[str, str],
    *,
    multirun: bool = True,
    intervals: bool = True,
    config_dir: str | None = None,
) -> list[list[str]]:
    """Return the values of each override, as overrides; arguments as in ``jobs``."""
    parser = OverridesParser.create(config_loader=loader_of(config_dir))
    parsed = []
    before = None
    for text in [*(f"{k}={v}" for k, v in swept.items()), *overrides]:
        try:
            parsed += parser.parse_overrides([text])
        except UNREADABLE as error:
            raise unreadable(text, before, all_choices()) from error
        before = text
    values: list[list[str]] = []
    for override in parsed:
        if not override.is_sweep_override():
            values.append([override.input_line or ""])
        elif not multirun:
            raise several_values(override.input_line or "", is_group=override.key_or_group in groups())
        elif override.is_discrete_sweep():
            values.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
            if not values[-1]:
                raise InputError(f"{override.input_line}: matches no choice")
        else:
            values.append(_ends(override, can_draw=intervals))
    return values


def _ends(override: Override, *, can_draw: bool) -> list[str]:
    """Return two overrides: the ends of an interval.

    Raises:
        InputError: the sweeper cannot draw from intervals, or the interval is empty.
    """
    name, interval = override.get_key_element(), override.value()
    assert isinstance(interval, IntervalSweep)
    start, end = interval.start, interval.end
    assert start is not None
    assert end is not None
    if not can_draw:
        raise InputError(
            f"{override.input_line}: only Optuna draws values from an interval; set hydra/sweeper=optuna or "
            f"experiment=tune, or list values: {name}={start},{end}"
        )
    if start > end or ("log" in interval.tags and start <= 0):
        need = "the lower end must come first" if start > end else "on a logarithmic scale it must start above 0"
        raise InputError(f"{override.input_line}: {need}")
    return [f"{name}={start}", f"{name}={end}"]
