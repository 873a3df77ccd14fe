"""The folder of an export: a format's file, ``student.json`` and ``README.md``."""

import dataclasses
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from stkd_lightning.inference.formats.base import INSIDE, Format
from stkd_lightning.inference.front_end import complete
from stkd_lightning.inference.quantization import Quantization
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts, checked
from stkd_lightning.inference.student_kinds import student_for
from stkd_lightning.inference.trust import check_image_size
from stkd_lightning.utilities.errors import InputError, reason, unknown
from stkd_lightning.utilities.files import write_json
from stkd_lightning.utilities.paths import conf_dir
from stkd_lightning.utilities.untrusted import read_json

MARK = "stkd_lightning_export"
LAYOUT = 1
CARD = "README.md"


def is_export(path: Path) -> bool:
    """Return whether a folder is an export: it has a ``student.json``."""
    return (path / INSIDE).is_file()


def format_of(name: str) -> Format:
    """Return the format of a name in the shipped configuration.

    Raises:
        InputError: an unknown name; names the nearest.
    """
    known = {path.stem: path for path in (conf_dir() / "format").glob("*.yaml")}
    if name not in known:
        raise unknown("format", name, known)
    return instantiate(OmegaConf.load(known[name]))


def load_export(folder: Path, *, trust: bool) -> Student:
    """Load a student from an export of any format.

    Args:
        folder: of the export.
        trust: also run file formats that can contain any program.

    Raises:
        InputError: a missing or damaged file, or a file that needs ``trust``.
    """
    try:
        content: Any = read_json(folder / INSIDE)
        version, name, fields = content[MARK], content["format"], dict(content["student"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"export {folder}: {INSIDE} is not that of an export ({reason(error)})") from error
    if version != LAYOUT:
        raise InputError(f"export {folder}: written by another version of stkd-lightning; export the student again")
    export_format, facts = format_of(str(name)), checked(fields, f"export {folder}")
    path = folder / export_format.file
    if not path.is_file():
        raise InputError(f"export {folder}: {export_format.file} is missing")
    if not trust:
        check_image_size(facts, folder)
        export_format.check_trusted(path, facts)
    return student_for(complete(export_format.read(path, facts), facts), facts)


def write_facts(
    folder: Path,
    export_format: Format,
    facts: StudentFacts,
    comparison: dict[str, Any],
    quantization: Quantization | None = None,
) -> None:
    """Write ``student.json``.

    Args:
        folder: of the export, with all its other files.
        export_format: format of the export.
        facts: of its student.
        comparison: images and largest difference of the comparison with the checkpoint.
        quantization: figures of a quantized file.
    """
    files = sorted([INSIDE, *(path.name for path in folder.iterdir())])
    content = {MARK: LAYOUT, "format": export_format.name, "files": files, "comparison": comparison}
    content |= {} if quantization is None else {"quantization": quantization.plain()}
    write_json(folder / INSIDE, {**content, "student": dataclasses.asdict(facts)})


def check_replaceable(output: Path) -> None:
    """Refuse a folder with files that are not part of an export.

    Raises:
        InputError: names a file that would be lost.
    """
    if not output.is_dir():
        return  # other obstacles were found by the check of the configuration
    names = sorted(path.name for path in output.iterdir())
    try:
        content = read_json(output / INSIDE)
        exported = set(content["files"]) if MARK in content else set()
    except (OSError, ValueError, LookupError, TypeError):
        exported = set()
    others = [name for name in names if name not in exported]
    if others:
        raise InputError(f"output={output}: contains {others[0]}, which is not part of an export; name a new folder")
