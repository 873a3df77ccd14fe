"""Composing a configuration, with mistakes told in one line."""

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

# What Hydra raises for values that it does not expect.
UNREADABLE = (
    *(HydraException, OmegaConfBaseException, ValueError, TypeError),
    *(AttributeError, LookupError, AssertionError, OSError, RecursionError),
)

LAUNCHERS = {f"hydra/launcher/{name}" for name in ("joblib", "submitit_local", "submitit_slurm")}
OPTUNA = "hydra/sweeper/optuna"


@contextmanager
def composing(config_path: str | None = None) -> Iterator[None]:
    """Have ``composed`` look in a folder of configuration; the shipped one by default."""
    GlobalHydra.instance().clear()
    folder = Path(config_path).absolute() if config_path else conf_dir()
    if not folder.is_dir():
        raise InputError(f"--config-path {config_path}: no such folder")
    with initialize_config_dir(str(folder), version_base="1.3"):
        yield


def composed(config_name: str, overrides: list[str], config_dir: str | None = None) -> DictConfig:
    """Compose one job's configuration, with Hydra's own part.

    Args:
        config_name: for example ``train``.
        overrides: as on the command line, one value each.
        config_dir: a user's folder of further configuration.

    Raises:
        InputError: an option or a name that is not there, with the nearest that are.
    """
    extra = []
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise InputError(f"--config-dir {config_dir}: no such folder")
        extra = [f"hydra.searchpath=['file://{Path(config_dir).absolute()}']"]
    try:
        return compose(config_name, [*overrides, *extra], return_hydra_config=True)
    except MissingConfigException as error:
        raise _missing(error) from error
    except UNREADABLE as error:
        raise _unknown_option(error, config_name, overrides, extra) from error


def with_values(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """Return a read-only copy of a configuration with other values.

    Args:
        config: stays as it is.
        values: by dotted name of options that exist.
    """
    changed = copy.deepcopy(config)
    OmegaConf.set_readonly(changed, False)
    for name, value in values.items():
        OmegaConf.update(changed, name, value, merge=False)
    OmegaConf.set_readonly(changed, True)
    return changed


def hide_shared_files() -> None:
    """Leave names that begin with ``_`` out of the choices in Hydra's ``--help`` and ``glob(*)``."""
    listed = ConfigLoaderImpl.get_group_options

    def visible(*arguments: Any, **options: Any) -> list[str]:
        return [name for name in listed(*arguments, **options) if not name.startswith("_")]

    ConfigLoaderImpl.get_group_options = visible  # type: ignore[method-assign]


def _missing(error: MissingConfigException) -> InputError:
    """Name a choice of a group that is not there."""
    path = error.missing_cfg_file or ""
    if path in LAUNCHERS or path == OPTUNA:
        extra = "optuna" if path == OPTUNA else "launchers"
        return InputError(
            f"{'='.join(path.rsplit('/', 1))}: its package is not installed; pip install 'stkd-lightning[{extra}]'"
        )
    group, _, name = path.partition("/")
    if not name:
        return unknown("configuration", path, GlobalHydra.instance().config_loader().get_group_options(""))
    return unknown(group, name, _choices(group))


def _groups() -> list[str]:
    return [g for g in GlobalHydra.instance().config_loader().list_groups("") if g not in ("hydra", "term")]


def _choices(group: str, below: str = "") -> list[str]:
    """Return what can be chosen in a group, with the choices of groups in it as ``inner/choice``."""
    loader = GlobalHydra.instance().config_loader()
    own = loader.get_group_options(group, ObjectType.CONFIG)
    nested = [c for inner in loader.list_groups(group) for c in _choices(f"{group}/{inner}", f"{below}{inner}/")]
    return [below + o for o in own if not o.startswith("_")] + nested


def _unknown_option(error: Exception, config_name: str, overrides: list[str], extra: list[str]) -> InputError:
    """Name an option that is not there; any other mistake in Hydra's own words, in one line."""
    words = " ".join(" ".join(str(e) for e in (error, error.__cause__) if e).split())[:1000]
    found = re.search(r"Could not override '([^']+)'", words)
    rest = [o for o in overrides if not found or re.split(r"[=@]", o, maxsplit=1)[0] != found.group(1)]
    if not found or len(rest) == len(overrides):
        return InputError(f"{' '.join(overrides)}: {words}")
    name = found.group(1)
    try:
        known = [o for o in options(compose(config_name, [*rest, *extra])) if not o.endswith("_target_")]
    except UNREADABLE:  # another override is wrong as well
        return InputError(f"{' '.join(overrides)}: {words}")
    known += [g for g in _groups() if g not in known]
    parent = name
    while parent and parent not in known:
        parent = parent.rpartition(".")[0]
    siblings = [k for k in known if k.rpartition(".")[0] == parent]
    # An option that is right but for where it stands ("alpha=0.5") is near by its last part.
    moved = [k for k in known if "." in k and k.rpartition(".")[2] == name.rpartition(".")[2]]
    near = moved or get_close_matches(name, siblings, n=2) or get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near[:3])}? " if near else ""
    return InputError(f"option {name!r}: unknown; {hint}all{f' of {parent}' if parent else ''}: {', '.join(siblings)}")


def options(config: DictConfig, prefix: str = "") -> list[str]:
    """Return the dotted names of all options and of what holds them."""
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
    """Return overrides of single jobs that together show every value of a sweep at least once, of an interval its ends.

    Not the product: a value is right or wrong whatever the others are, so as many jobs as the longest list.

    Args:
        overrides: as on the command line.
        swept: those that the configuration's own sweeper adds.
        intervals: whether the sweeper can draw from them.
        config_dir: a user's folder of further configuration, whose choices a pattern can match.

    Raises:
        InputError: an override that cannot be read, an interval that nothing can be drawn from, or a pattern that
            matches nothing.
    """
    try:
        parsed = OverridesParser.create(config_loader=_loader(config_dir)).parse_overrides(
            [*(f"{k}={v}" for k, v in swept.items()), *overrides]
        )
    except UNREADABLE as error:
        raise InputError(f"{' '.join(overrides)}: {str(error).splitlines()[0]}") from error
    values: list[list[str]] = []
    for one in parsed:
        if not one.is_sweep_override():
            values.append([one.input_line or ""])
        elif one.is_discrete_sweep():
            values.append([f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()])
            if not values[-1]:
                raise InputError(f"{one.input_line}: matches nothing")
        else:
            values.append(_ends(one, can_draw=intervals))
    length = max(map(len, values), default=1)
    return [[v[min(i, len(v) - 1)] for v in values] for i in range(length)]


def _loader(config_dir: str | None) -> ConfigLoader:
    """Return what knows all choices, a user's own among them."""
    loader = GlobalHydra.instance().config_loader()
    if config_dir is None:
        return loader
    path = copy.deepcopy(loader.get_search_path())
    path.append("command-line", f"file://{Path(config_dir).absolute()}")
    return ConfigLoaderImpl(path)


def _ends(override: Override, *, can_draw: bool) -> list[str]:
    """Return overrides with the ends of an interval."""
    name, interval = override.get_key_element(), override.value()
    assert isinstance(interval, IntervalSweep)
    start, end = interval.start, interval.end
    assert start is not None
    assert end is not None
    if not can_draw:
        raise InputError(
            f"{override.input_line}: values are drawn from an interval by Optuna only; hydra/sweeper=optuna or "
            f"experiment=tune chooses it, or name values: {name}={start},{end}"
        )
    if start > end or ("log" in interval.tags and start <= 0):
        need = "the first end must be the lower one" if start > end else "on a logarithmic scale it must begin above 0"
        raise InputError(f"{override.input_line}: {need}")
    return [f"{name}={start}", f"{name}={end}"]
