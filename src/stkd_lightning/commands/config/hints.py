"""Hints for overrides that cannot be read and for flags that do not exist: the words to write instead."""

import inspect
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from hydra._internal.utils import _locate
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.redaction import redacted

SMOKE = "experiment=smoke"  # in place of Lightning's fast_dev_run, which writes no checkpoint


def unreadable(text: str, before: str | None, choices: Sequence[str]) -> InputError:
    """Return the error for an override that Hydra's parser refuses, with the text to write instead.

    Args:
        text: the override.
        before: the override in front of it, whose value may have had a space.
        choices: all choices as ``group=choice``, and all groups and options.
    """
    name, equals, value = text.partition("=")
    if not equals:
        return _without_value(text, before, choices)
    if redacted([text]) != [text]:
        return InputError(f"{name}: the value cannot be read; look at its brackets and quotes")
    quoted = as_text(name, value)
    if not _is_readable(quoted):
        return InputError(f"{text}: cannot be read; an option is written NAME=VALUE")
    if value[:1] in ("[", "{", "'", '"'):
        return InputError(f"{text}: brackets or quotes do not match; as one text, write {for_shell(quoted)}")
    return InputError(f"{text}: this value needs quotes; write {for_shell(quoted)}")


def _without_value(text: str, before: str | None, choices: Sequence[str]) -> InputError:
    if text in choices:
        return InputError(f"{text}: has no value; write {text}=VALUE")
    same = [c for c in choices if c.partition("=")[2] == text]
    if same:
        return InputError(f"{text}: has no name; write {' or '.join(same[:3])}")
    if before and "=" in before:
        joined = for_shell(as_text(before.partition("=")[0], f"{before.partition('=')[2]} {text}"))
        return InputError(f"{text}: an option is written NAME=VALUE; a value with a space needs quotes: {joined}")
    return InputError(f"{text}: an option is written NAME=VALUE; see --help")


def quoted(text: str, mark: str = "'") -> str:
    """Return a text as a quoted value of an override, in which no character has a meaning of its own."""
    pattern = rf"(\\*)({mark}|$)"
    return mark + re.sub(pattern, lambda match: match[1] * 2 + match[2].replace(mark, f"\\{mark}"), text) + mark


def is_plain(text: str) -> bool:
    """Return whether an override's value without quotes is read as this text."""
    try:
        return str(OverridesParser.create().parse_override(f"name={text}").value()) == text
    except HydraException:
        return False


def as_text(name: str, value: str) -> str:
    """Return an override whose value is a text in quotes."""
    mark = '"' if "'" in value and '"' not in value else "'"
    return f"{name}={quoted(value, mark)}"


def for_shell(override: str) -> str:
    """Return an override as a POSIX shell reads it, without credentials."""
    shown = redacted([override])[0]
    if not set('"$`\\!') & set(shown):
        return f'"{shown}"'
    return "'" + shown.replace("'", "'\\''") + "'"


def _is_readable(text: str) -> bool:
    try:
        OverridesParser.create().parse_override(text)
    except HydraException:
        return False
    return True


def several_values(text: str, *, is_group: bool) -> InputError:
    """Return the error for several values of an option without a sweep."""
    name, _, value = text.partition("=")
    one = "" if is_group else f"; as one list write {for_shell(f'{name}=[{value}]')}"
    return InputError(f"{text}: several values are a sweep, which needs -m; write -m {text}{one}")


def nearest(word: str, options: Iterable[str], cutoff: float = 0.75) -> list[str]:
    """Return the options that a word may mean, by the last parts of their names.

    Args:
        word: such as ``epochs``, ``lr``, ``batch-size``.
        options: dotted names.
        cutoff: least likeness, from 0 to 1, of a word with a typo to an option.
    """
    word = word.lower().replace("-", "_")
    words = set(word.split("_"))
    ends: dict[str, list[str]] = {}
    for option in options:
        ends.setdefault(option.rpartition(".")[2], []).append(option)
    tiers = (
        [word] if word in ends else [],
        [e for e in ends if words <= set(e.split("_")) or set(e.split("_")) <= words],
        [e for e in ends if "_" in e and "".join(part[:1] for part in e.split("_")) == word],
        [e for e in ends if "_" in word and "".join(part[:1] for part in word.split("_")) == e],
        get_close_matches(word, ends, n=1, cutoff=cutoff),
    )
    found = [option for end in next(filter(None, tiers), []) for option in ends[end]]
    # The options of the student's training come before those of the teacher's and of what is nested in others.
    rank = {option: (option.startswith("teacher."), option.count(".")) for option in found}
    return [option for option in found if rank[option] == min(rank.values())]


def instead_of_flag(flag: str, value: str | None, config: DictConfig, options: Sequence[str]) -> str | None:
    """Return the overrides to write in place of a flag that does not exist; ``None`` if there is none.

    Args:
        flag: such as ``--epochs`` or ``--epochs=3``.
        value: what follows it.
        config: the composed configuration.
        options: dotted names of options that have a value, and groups.
    """
    word, equals, given = flag.lstrip("-").partition("=")
    if word.replace("-", "_") == "fast_dev_run":
        return SMOKE
    near = nearest(word, options)
    added = "" if near else "+trainer."
    if not near:
        if not accepts(config.get("trainer"), word.replace("-", "_")):
            return None
        near = [word.replace("-", "_")]
    value = given if equals else value
    if value is None:
        value = "true" if isinstance(OmegaConf.select(config, near[0]), bool) else "VALUE"
    return " or ".join(redacted([f"{added}{name}={value}" for name in near]))


def accepts(node: Any, name: str) -> bool:
    """Return whether the class of a node has a parameter that the node does not list; imports the class."""
    target = node.get("_target_") if isinstance(node, DictConfig) else None
    if not isinstance(target, str) or target.startswith("stkd_lightning."):  # conf/ lists all options of ours
        return False
    try:
        return name in inspect.signature(_locate(target)).parameters  # get_object would also print the error
    except Exception:
        return False
