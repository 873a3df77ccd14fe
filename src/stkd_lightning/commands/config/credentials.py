"""Credentials in a configuration: what Hydra writes of them, and names of folders that would contain one."""

import re
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.redaction import MARK, is_secret, redacted

_FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*(\w+)[^{}]*\}")
_RUN_FOLDERS = ("hydra.run.dir",)
_SWEEP_FOLDERS = ("hydra.sweep.dir", "hydra.sweep.subdir")
_OTHER_FOLDERS = ("hydra.output_subdir", "cache_dir", "output")


def without_credentials(content: Any) -> Any:
    """Return plain containers of a configuration, as Hydra composes or writes it, without credentials.

    Hydra joins all overrides in ``hydra.job.override_dirname``; it is made again from the redacted overrides.
    """
    shown = redacted(content)
    node = shown.get("hydra", shown) if isinstance(shown, dict) else {}
    if shown != content and isinstance(node.get("job"), dict) and "override_dirname" in node["job"]:
        options = node["job"]["config"]["override_dirname"]
        try:
            overrides = OverridesParser.create().parse_overrides(node["overrides"]["task"])
        except HydraException:  # a cut text, whose end may be missing
            node["job"]["override_dirname"] = MARK
            return shown
        node["job"]["override_dirname"] = get_overrides_dirname(
            overrides, options["exclude_keys"], options["item_sep"], options["kv_sep"]
        )
    return shown


def public(config: DictConfig) -> Any:
    """Return a whole configuration as plain values without credentials, also where others refer to them."""
    try:
        return redacted(OmegaConf.to_container(_redacted(config), resolve=True))
    except OmegaConfBaseException:  # an interpolation whose text is cut
        return redacted(OmegaConf.to_container(config, resolve=True))


def _redacted(config: DictConfig) -> DictConfig:
    """Return a copy whose credentials are replaced before interpolations are resolved."""
    copy = OmegaConf.create(_without_variables(without_credentials(OmegaConf.to_container(config, resolve=False))))
    OmegaConf.copy_cache(config, copy)  # the time in a folder's name stays the same
    return copy


def _without_variables(value: Any) -> Any:
    """Replace references to environment variables that hold credentials."""
    if isinstance(value, dict):
        return {k: _without_variables(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_variables(v) for v in value]
    if isinstance(value, str):
        return _FROM_ENVIRONMENT.sub(lambda match: MARK if is_secret(match[1]) else match[0], value)
    return value


def check_folder_names(config: DictConfig, *, sweep: bool) -> None:
    """Refuse a folder whose name would contain a credential.

    Args:
        config: of one job, with the group ``hydra``.
        sweep: whether the job belongs to a sweep.

    Raises:
        InputError: an override with a credential, or an interpolation of one, is part of a folder's name.
    """
    real, shown = OmegaConf.create(OmegaConf.to_container(config, resolve=False)), _redacted(config)
    OmegaConf.copy_cache(config, real)
    for copy in (real, shown):
        OmegaConf.update(copy, "hydra.job.num", 0)
        OmegaConf.update(copy, "hydra.job.id", "0")
    for name in (*(_SWEEP_FOLDERS if sweep else _RUN_FOLDERS), *_OTHER_FOLDERS):
        folder = _selected(real, name)
        OmegaConf.copy_cache(real, shown)  # the same time in both names
        if folder == _selected(shown, name):
            continue
        secret = [
            override.key_or_group
            for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
            if redacted([override.input_line]) != [override.input_line]
        ]
        written = OmegaConf.to_container(OmegaConf.select(real, name.rpartition(".")[0]), resolve=False)
        hint = "take it out of the name"
        if isinstance(written, dict) and "override_dirname" in str(written.get(name.rpartition(".")[2])):
            hint = f"add hydra.job.config.override_dirname.exclude_keys=[{','.join(secret)}]"
        raise InputError(f"{name}: the folder's name would contain a credential; {hint}")


def _selected(config: Any, name: str) -> Any:
    try:
        return OmegaConf.select(config, name)
    except OmegaConfBaseException:  # refused elsewhere, with its name
        return None
