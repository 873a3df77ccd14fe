"""The command line: Hydra's flags in any place among the overrides."""

import argparse
import sys
from importlib.metadata import version
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser

from stkd_lightning.utilities.errors import InputError


def read_arguments() -> tuple[argparse.Namespace, list[tuple[str, str | None]]]:
    """Return the parsed command line, and each flag that does not exist with the word after it.

    ``sys.argv`` gets the flags before the overrides, as Hydra's own parser expects them.

    Raises:
        InputError: a flag has no value, or a wrong one.
    """
    parser = get_args_parser()
    parser.allow_abbrev = False  # --experiment=... is no abbreviation of --experimental-rerun
    parser.error = _refuse  # type: ignore[method-assign]
    given = sys.argv[1:]
    if "--version" in given:
        print(f"stkd-lightning {version('stkd-lightning')}")
        sys.exit(0)
    arguments, unknown = parser.parse_known_intermixed_args(given)
    flags = [word for word in unknown if word.startswith("-")]
    if not flags:
        sys.argv[1:] = [*_flags(parser, arguments), *arguments.overrides]
    return arguments, [(flag, _word_after(flag, given)) for flag in flags]


def _word_after(flag: str, given: list[str]) -> str | None:
    """Return the word that is a flag's value; ``None`` if there is none, as for a switch."""
    after = given[given.index(flag) + 1 :][:1]
    return after[0] if after and not after[0].startswith("-") and "=" not in flag + after[0] else None


def _refuse(message: str) -> NoReturn:
    raise InputError(message)


def _flags(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> list[str]:
    flags: list[str] = []
    for action in parser._actions:
        value: Any = getattr(arguments, action.dest, None)
        if action.option_strings and value is True:
            flags.append(action.option_strings[0])
        elif action.option_strings and isinstance(value, str):
            flags.append(f"{action.option_strings[0]}={value}")
    return flags
