"""The help of a command: its options with the comments of ``conf/``, a group and its choices, or one option."""

import textwrap
from difflib import get_close_matches
from string import Template
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.config.comments import comments_of, composed_comments
from stkd_lightning.commands.config.compose import choices, composed, groups, loader_of, options
from stkd_lightning.commands.config.hints import nearest
from stkd_lightning.commands.config.sweeps import jobs
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.redaction import redacted

WIDTH = 120
FLAGS = """\
== Flags ==

--help [NAME]          this text, or what a group or an option means
--multirun, -m         one run for each combination of values: -m NAME=A,B
--config-dir FOLDER    also use the configurations in this folder
--cfg job              print the composed configuration
--version              print the version
--hydra-help           print the flags of Hydra"""


def help_text(config_name: str, arguments: Any) -> str:
    """Return what ``--help`` prints.

    Args:
        config_name: of the command, for example ``train``.
        arguments: the parsed command line; a word without ``=`` is a group or an option to explain.

    Raises:
        InputError: such a word names neither.
    """
    overrides = [o for o in arguments.overrides if "=" in o or o.startswith("~")]
    topics = [o for o in arguments.overrides if o not in overrides]
    overrides = jobs(overrides, {}, config_dir=arguments.config_dir)[0]  # of a sweep, the first job
    config = composed(config_name, overrides, arguments.config_dir)
    loader = loader_of(arguments.config_dir)
    comments = composed_comments(config_name, overrides, loader)
    if topics:
        return "\n\n".join(_topic(topic, config, comments, loader) for topic in topics)
    own = [name for name in _options(config) if name.partition(".")[0] not in groups(config)]
    names = [name for name in own if not isinstance(_value(config, name), DictConfig)]
    template = str(OmegaConf.to_container(config.hydra.help, resolve=False)["template"])  # type: ignore[index,call-overload]
    return Template(template).safe_substitute(
        APP_CONFIG_GROUPS="\n".join(_choices(group, loader) for group in groups(config)) + "\n",
        CONFIG=_listed(names, config, comments) + "\n",
        FLAGS_HELP=FLAGS,
    )


def _choices(group: str, loader: ConfigLoader) -> str:
    text = f"{group}: {', '.join(choices(group, loader=loader))}"
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _topic(topic: str, config: DictConfig, comments: dict[str, str], loader: ConfigLoader) -> str:
    """Return the text for a group or an option.

    Raises:
        InputError: neither exists.
    """
    below = [name for name in _options(config) if name == topic or name.startswith(f"{topic}.")]
    leaves = [name for name in below if not isinstance(_value(config, name), DictConfig)]
    if topic in groups(config):
        chosen = config.hydra.runtime.choices.get(topic)
        names = choices(topic, loader=loader)
        first = [(name, (comments_of(f"{topic}/{name}", loader).header or [""])[0]) for name in names]
        width = max(map(len, names), default=0)
        lines = [f"{topic}=CHOICE", "", *(f"  {name:{width}}  {header}".rstrip() for name, header in first)]
        if leaves:
            header = [f"  {line}" for line in comments_of(f"{topic}/{chosen}", loader).header]
            lines += ["", f"Options of {topic}={chosen}:", "", *header, "", _listed(leaves, config, comments)]
        return "\n".join(lines)
    if leaves:
        return _listed(leaves, config, comments)
    same = [f"{group}/{topic}" for group in groups(config) if topic in choices(group, loader=loader)]
    if not same:
        near = nearest(topic, _options(config)) or get_close_matches(topic, [*groups(config), *_options(config)], n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(f"--help {topic}: no such group or option; {hint}groups: {', '.join(groups(config))}")
    return "\n\n".join("\n".join([path.replace("/", "=", 1), *comments_of(path, loader).header]) for path in same)


def _options(config: DictConfig) -> list[str]:
    """Return the dotted names of a command's options, and of the nodes that hold them."""
    return [name for name in options(config) if name.partition(".")[0] != "hydra" and not name.endswith("_target_")]


def _listed(names: list[str], config: DictConfig, comments: dict[str, str]) -> str:
    """Return one line for each option: its name, its value, and its comment."""
    shown = [redacted([f"{name}={_text(_value(config, name))}"])[0] for name in names]
    width = min(max(map(len, shown), default=0), WIDTH // 3)
    told = [comments.get(text.partition("=")[0], "") for text in shown]
    return "\n".join(f"{text:{width}}  {comment}".rstrip() for text, comment in zip(shown, told, strict=True))


def _value(config: DictConfig, name: str) -> Any:
    """Return the value of an option as it is written, with its interpolations."""
    parent, _, key = name.rpartition(".")
    node: Any = OmegaConf.select(config, parent) if parent else config
    written = OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key)
    return node._get_node(key)._value() if written else node[key]


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
