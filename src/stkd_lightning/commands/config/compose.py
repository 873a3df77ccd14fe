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
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stkd_lightning.commands.config.hints import SMOKE, accepts, for_shell, instead_of_flag, nearest
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
WHOLE = (
    "teacher.dataset",
    "teacher.weights",
    "feature_distillation.dataset",
    "pretraining",
)  # null, or a mapping of any options


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
        raise _refused(error, config_name, overrides, search_path) from error


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
    return unknown(group, name, choices(group))


def groups(config: DictConfig | None = None) -> list[str]:
    """Return the names of the groups of choices: those of a command's composed configuration, or all."""
    if config is not None:
        return sorted(g for g in config.hydra.runtime.choices if not g.startswith("hydra/") and "@" not in g)
    return [g for g in GlobalHydra.instance().config_loader().list_groups("") if g not in ("hydra", "term")]


def loader_of(config_dir: str | None) -> ConfigLoader:
    """Return the loader of all choices, including those of a user's folder."""
    loader = GlobalHydra.instance().config_loader()
    if config_dir is None:
        return loader
    path = copy.deepcopy(loader.get_search_path())
    path.append("command-line", f"file://{Path(config_dir).absolute()}")
    return ConfigLoaderImpl(path)


def choices(group: str, prefix: str = "", loader: ConfigLoader | None = None) -> list[str]:
    """Return the choices of a group; those of its subgroups as ``subgroup/choice``."""
    loader = loader or loader_of(None)
    direct = loader.get_group_options(group, ObjectType.CONFIG)
    nested = [c for sub in loader.list_groups(group) for c in choices(f"{group}/{sub}", f"{prefix}{sub}/", loader)]
    return [prefix + c for c in direct if not c.startswith("_")] + nested


def all_choices() -> list[str]:
    """Return all groups, and all choices as ``group=choice``."""
    names = groups()
    return names + [f"{group}={choice}" for group in names for choice in choices(group)]


def _refused(error: Exception, config_name: str, overrides: list[str], search_path: list[str]) -> InputError:
    """Return the error for the override that Hydra refuses: the nearest options, or Hydra's message in one line."""
    message = " ".join(" ".join(str(e) for e in (error, error.__cause__) if e).split())[:1000]
    for override, shown in zip(overrides, redacted(overrides), strict=True):
        message = message.replace(override, shown)
    culprit, config = _without_culprit(config_name, overrides, search_path)
    if culprit is None or config is None:  # several overrides are wrong
        return InputError(f"{' '.join(redacted(overrides))}: {message}")
    shown = redacted([culprit])[0]
    if "Could not append to config" in message:
        return InputError(f"{shown}: this option exists; write {shown.removeprefix('+')}")
    if not re.search(r"Could not override '([^']+)'", message):
        return InputError(f"{shown}: {message}")
    return _unknown_option(re.split(r"[=@]", culprit, maxsplit=1)[0], shown, config)


def _without_culprit(
    config_name: str, overrides: list[str], search_path: list[str]
) -> tuple[str | None, DictConfig | None]:
    """Return the one override without which the others compose, and their configuration."""
    rests = {culprit: [o for o in overrides if o != culprit] for culprit in reversed(overrides)}
    found = ((culprit, _composed_or_none(config_name, [*rest, *search_path])) for culprit, rest in rests.items())
    return next(((culprit, config) for culprit, config in found if config is not None), (None, None))


def _composed_or_none(config_name: str, overrides: list[str]) -> DictConfig | None:
    try:
        return compose(config_name, overrides, return_hydra_config=True)
    except UNREADABLE:
        return None


def _unknown_option(name: str, override: str, config: DictConfig) -> InputError:
    """Return the error for an option that does not exist.

    Args:
        name: its dotted name.
        override: the override that names it.
        config: the configuration without the override.
    """
    known = [o for o in options(config) if not o.startswith("hydra") and not o.endswith("_target_")]
    known += [g for g in groups(config) if g not in known]
    parent = name
    while parent and parent not in known:
        parent = parent.rpartition(".")[0]
    if name == "trainer.fast_dev_run":
        return InputError(f"{name}: writes no checkpoint; {SMOKE} runs one batch of everything")
    if parent in WHOLE and OmegaConf.select(config, parent) is None:
        value = override.partition("=")[2] or "VALUE"
        for part in reversed(name.removeprefix(f"{parent}.").split(".")):
            value = f"{{{part}:{value}}}"
        return InputError(f"option {name!r}: {parent} is set as a whole; write {for_shell(f'{parent}={value}')}")
    siblings = [k for k in known if k.rpartition(".")[0] == parent]
    last = name.removeprefix(f"{parent}.")
    # A parameter that conf/ lacks, such as min_epochs, is less like an option, such as max_epochs, than a typo is.
    typo = nearest(last, siblings, cutoff=0.85) if parent else []
    if not typo and accepts(OmegaConf.select(config, parent) if parent else None, last):
        return InputError(f"option {name!r}: is not in conf/; add it with +: {for_shell(f'+{override}')}")
    # "alpha=0.5" has the right last part but no group: suggest the options that end in it.
    same_ending = [k for k in known if "." in k and k.rpartition(".")[2] == name.rpartition(".")[2]]
    near = typo or same_ending or get_close_matches(name, siblings, n=2)
    near = near or get_close_matches(name, known, n=3) or nearest(name, leaves(config))
    hint = f"did you mean {' or '.join(near[:3])}? " if near else ""
    return InputError(f"option {name!r}: unknown; {hint}all{f' of {parent}' if parent else ''}: {', '.join(siblings)}")


def flags_instead(flags: list[tuple[str, str | None]], config_name: str, config_dir: str | None) -> InputError:
    """Return the error for flags that do not exist, with the overrides to write instead.

    Args:
        flags: each flag, and the word after it.
        config_name: for example ``train``.
        config_dir: a user's folder of additional configurations.
    """
    config = composed(config_name, [], config_dir)
    instead = {flag: instead_of_flag(flag, value, config, leaves(config)) for flag, value in flags}
    for flag, overrides in instead.items():
        if overrides is None:
            return InputError(f"{flag.partition('=')[0]}: no such flag; options are written NAME=VALUE; see --help")
    names = " ".join(flag.partition("=")[0] for flag in instead)
    return InputError(f"{names}: no such flag; write {' '.join(filter(None, instead.values()))}")


def leaves(config: DictConfig) -> list[str]:
    """Return the dotted names of options that hold a value, and the groups; those of callbacks and loggers aside."""
    names = [name for name in options(config) if not name.startswith(("hydra", "callbacks.", "logger."))]
    parents = {name.rpartition(".")[0] for name in names}
    return groups(config) + [n for n in names if n not in parents and not n.endswith("_target_")]


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
