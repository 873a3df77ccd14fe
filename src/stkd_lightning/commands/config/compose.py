"""Compose a configuration, and describe each mistake in one line."""

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.paths import conf_dir
from stkd_lightning.utilities.redaction import redacted

# Exceptions that Hydra raises for unexpected values.
UNREADABLE = (
    *(HydraException, OmegaConfBaseException, ValueError, TypeError),
    *(AttributeError, LookupError, AssertionError, OSError, RecursionError),
)

LAUNCHERS = {f"hydra/launcher/{name}" for name in ("joblib", "submitit_local", "submitit_slurm")}
OPTUNA = "hydra/sweeper/optuna"


@contextmanager
def composing(config_path: str | None = None) -> Iterator[None]:
    """Let ``composed`` read a folder of configurations, by default the one of this package."""
    GlobalHydra.instance().clear()
    folder = Path(config_path).absolute() if config_path else conf_dir()
    if not folder.is_dir():
        raise InputError(f"--config-path {config_path}: no such folder")
    with initialize_config_dir(str(folder), version_base="1.3"):
        yield


def composed(config_name: str, overrides: list[str], config_dir: str | None = None) -> DictConfig:
    """Compose the configuration of one job, including the group ``hydra``.

    Args:
        config_name: for example ``train``.
        overrides: as on the command line, with one value each.
        config_dir: a user's folder of additional configurations.

    Raises:
        InputError: an option or a name does not exist; names the nearest ones.
    """
    for override in overrides:
        _check_deletion(override)
    search_path = []
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise InputError(f"--config-dir {config_dir}: no such folder")
        search_path = [f"hydra.searchpath=['file://{Path(config_dir).absolute()}']"]
    try:
        return compose(config_name, [*overrides, *search_path], return_hydra_config=True)
    except MissingConfigException as error:
        raise _missing(error) from error
    except UNREADABLE as error:
        raise _unknown_option(error, config_name, overrides, search_path) from error


def _check_deletion(override: str) -> None:
    """Refuse to delete a group or an option of all runs; a part of a group, such as a callback, can be deleted.

    Raises:
        InputError: names what to do instead.
    """
    name = override.lstrip("~").partition("=")[0]
    if override.startswith("~") and "." not in name and "/" not in name and name != "experiment":
        raise InputError(f"{override}: every run needs {name}; choose another with {name}=VALUE")


def with_values(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Return a read-only copy of a configuration with some values changed.

    Args:
        config: is not changed.
        values: by the dotted names of existing options.
    """
    result = copy.deepcopy(config)
    OmegaConf.set_readonly(result, False)
    for name, value in values.items():
        OmegaConf.update(result, name, value, merge=False)
    OmegaConf.set_readonly(result, True)
    return result


def quoted(text: str) -> str:
    """Return a text as a quoted value of an override, in which no character has a meaning of its own."""
    return "'" + re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + match[2].replace("'", "\\'"), text) + "'"


def hide_shared_files() -> None:
    """Leave names that begin with ``_`` out of the choices in Hydra's ``--help`` and ``glob(*)``."""
    listed = ConfigLoaderImpl.get_group_options

    def visible(*arguments: Any, **options: Any) -> list[str]:
        return [name for name in listed(*arguments, **options) if not name.startswith("_")]

    ConfigLoaderImpl.get_group_options = visible  # type: ignore[method-assign]


def _missing(error: MissingConfigException) -> InputError:
    """Return the error for a choice of a group that does not exist, or whose package is not installed."""
    path = error.missing_cfg_file or ""
    if path in LAUNCHERS or path == OPTUNA:
        extra = "optuna" if path == OPTUNA else "launchers"
        return InputError(
            f"{'='.join(path.rsplit('/', 1))}: its package is not installed; run pip install 'stkd-lightning[{extra}]'"
        )
    group, _, name = path.partition("/")
    if not name:
        return unknown("configuration", path, GlobalHydra.instance().config_loader().get_group_options(""))
    return unknown(group, name, _choices(group))


def _groups() -> list[str]:
    return [g for g in GlobalHydra.instance().config_loader().list_groups("") if g not in ("hydra", "term")]


def _choices(group: str, prefix: str = "") -> list[str]:
    """Return the choices of a group; those of its subgroups as ``subgroup/choice``."""
    loader = GlobalHydra.instance().config_loader()
    choices = loader.get_group_options(group, ObjectType.CONFIG)
    nested = [c for sub in loader.list_groups(group) for c in _choices(f"{group}/{sub}", f"{prefix}{sub}/")]
    return [prefix + c for c in choices if not c.startswith("_")] + nested


def _unknown_option(error: Exception, config_name: str, overrides: list[str], search_path: list[str]) -> InputError:
    """Return the error for an option that does not exist; for any other mistake Hydra's message in one line."""
    message = " ".join(" ".join(str(e) for e in (error, error.__cause__) if e).split())[:1000]
    for override, shown in zip(overrides, redacted(overrides), strict=True):
        message = message.replace(override, shown)
    match = re.search(r"Could not override '([^']+)'", message)
    rest = [o for o in overrides if not match or re.split(r"[=@]", o, maxsplit=1)[0] != match.group(1)]
    if not match or len(rest) == len(overrides):
        return InputError(f"{' '.join(redacted(overrides))}: {message}")
    name = match.group(1)
    try:
        known = [o for o in options(compose(config_name, [*rest, *search_path])) if not o.endswith("_target_")]
    except UNREADABLE:  # another override is wrong too
        return InputError(f"{' '.join(redacted(overrides))}: {message}")
    known += [g for g in _groups() if g not in known]
    parent = name
    while parent and parent not in known:
        parent = parent.rpartition(".")[0]
    siblings = [k for k in known if k.rpartition(".")[0] == parent]
    # "alpha=0.5" has the right last part but no group: suggest the options that end in it.
    same_ending = [k for k in known if "." in k and k.rpartition(".")[2] == name.rpartition(".")[2]]
    near = same_ending or get_close_matches(name, siblings, n=2) or get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near[:3])}? " if near else ""
    return InputError(f"option {name!r}: unknown; {hint}all{f' of {parent}' if parent else ''}: {', '.join(siblings)}")


def options(config: DictConfig, prefix: str = "") -> list[str]:
    """Return the dotted names of all options and groups."""
    names = []
    for key in map(str, config):
        name = f"{prefix}{key}"
        names.append(name)
        if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if isinstance(config[key], DictConfig):
            names += options(config[key], f"{name}.")
    return names


def jobs(
    overrides: list[str], swept: dict[str, str], *, intervals: bool = True, config_dir: str | None = None
) -> list[list[str]]:
    """Return overrides of single jobs that contain every value of a sweep, and both ends of every interval.

    There are as many jobs as the longest list has values, not their product: each value is checked by itself.

    Args:
        overrides: as on the command line.
        swept: overrides that the sweeper of the configuration adds.
        intervals: whether the sweeper can draw values from an interval.
        config_dir: a user's folder of additional configurations, whose choices a pattern can match.

    Raises:
        InputError: an override cannot be read, no value can be drawn from an interval, or a pattern matches no choice.
    """
    try:
        parsed = OverridesParser.create(config_loader=_loader(config_dir)).parse_overrides(
            [*(f"{k}={v}" for k, v in swept.items()), *overrides]
        )
    except UNREADABLE as error:
        raise InputError(f"{' '.join(redacted(overrides))}: {str(error).splitlines()[0]}") from error
    values: list[list[str]] = []
    for override in parsed:
        if not override.is_sweep_override():
            values.append([override.input_line or ""])
        elif override.is_discrete_sweep():
            values.append([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])
            if not values[-1]:
                raise InputError(f"{override.input_line}: matches no choice")
        else:
            values.append(_ends(override, can_draw=intervals))
    length = max(map(len, values), default=1)
    return [[v[min(i, len(v) - 1)] for v in values] for i in range(length)]


def _loader(config_dir: str | None) -> ConfigLoader:
    """Return the loader of all choices, including those of a user's folder."""
    loader = GlobalHydra.instance().config_loader()
    if config_dir is None:
        return loader
    path = copy.deepcopy(loader.get_search_path())
    path.append("command-line", f"file://{Path(config_dir).absolute()}")
    return ConfigLoaderImpl(path)


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
