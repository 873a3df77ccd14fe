"""The folder that an export is: a format's file, ``student.json``, ``README.md``."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from stkd_lightning.inference.formats.base import INSIDE, Format
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts, checked
from stkd_lightning.utilities.errors import InputError, reason, unknown
from stkd_lightning.utilities.files import write_json
from stkd_lightning.utilities.paths import conf_dir

MARK = "stkd_lightning_export"
LAYOUT = 1
CARD = "README.md"


def is_export(path: Path) -> bool:
    """Return whether a folder says that it is an export."""
    return (path / INSIDE).is_file()


def format_of(name: str) -> Format:
    """Return the format of a name; its choice in the shipped configuration says what it is.

    Raises:
        InputError: there is none, with the nearest.
    """
    known = {path.stem: path for path in (conf_dir() / "format").glob("*.yaml")}
    if name not in known:
        raise unknown("format", name, known)
    return instantiate(OmegaConf.load(known[name]))


def load_export(folder: Path, *, trust: bool) -> Student:
    """Load a student from an export, whatever its format.

    Args:
        folder: of the export.
        trust: run what the file holds, also where that may be any program.

    Raises:
        InputError: a file that is missing, damaged, or wants more trust than it is given.
    """
    try:
        said: Any = json.loads((folder / INSIDE).read_text())
        version, name, fields = said[MARK], said["format"], dict(said["student"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"export {folder}: {INSIDE} is not that of an export ({reason(error)})") from error
    if version != LAYOUT:
        raise InputError(f"export {folder}: of another version of stkd-lightning; export the student again")
    one, facts = format_of(str(name)), checked(fields, f"export {folder}")
    path = folder / one.file
    if not path.is_file():
        raise InputError(f"export {folder}: {one.file} is missing")
    if not trust:
        one.check_trusted(path, facts)
    return Student(one.read(path, facts), facts)


def write_facts(folder: Path, one: Format, facts: StudentFacts, comparison: dict[str, Any]) -> None:
    """Write ``student.json``.

    Args:
        folder: of the export, with all its other files in it.
        one: its format.
        facts: of its student.
        comparison: with what the file was compared, and how near it came.
    """
    files = sorted([INSIDE, *(path.name for path in folder.iterdir())])
    content = {MARK: LAYOUT, "format": one.name, "files": files, "comparison": comparison}
    write_json(folder / INSIDE, {**content, "student": dataclasses.asdict(facts)})


def check_replaceable(output: Path) -> None:
    """Refuse a folder that holds anything but an export.

    Raises:
        InputError: names a file that would be lost.
    """
    if not output.is_dir():
        return  # what else is in the way, the check of the configuration has found
    there = sorted(path.name for path in output.iterdir())
    try:
        said = json.loads((output / INSIDE).read_text())
        own = set(said["files"]) if MARK in said else set()
    except (OSError, ValueError, LookupError, TypeError):
        own = set()
    others = [name for name in there if name not in own]
    if others:
        raise InputError(f"output={output}: holds {others[0]}, which is not of an export; name a folder that is new")
