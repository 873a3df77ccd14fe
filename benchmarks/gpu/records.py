"""The JSON file of an item: its result or its error, with commit, hardware and versions."""

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine

from stkd_lightning.reporting.summary import environment
from stkd_lightning.utilities.files import write_json

KEPT_TEXT = 4000  # last characters of a traceback or a log in a record


def failure(error: str) -> dict[str, Any]:
    """Return the content of a record of an item that failed."""
    return {"error": error}


def write_record(path: Path, title: str, seconds: float, content: dict[str, Any]) -> None:
    """Write a record.

    Args:
        path: of the file.
        title: of the item.
        seconds: that it took.
        content: ``result`` or ``error``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"item": title, "seconds": round(seconds, 1)}
    write_json(path, {**about, **content, **environment(), **machine.commit()})


def attempt(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of a function, or its error."""
    try:
        return {"result": run()}
    except Exception as error:
        traceback.print_exc()
        return failure(f"{type(error).__name__}: {error}") | {"traceback": traceback.format_exc()[-KEPT_TEXT:]}


def read_result(path: Path) -> dict[str, Any]:
    """Return the result in a record; an empty one if the record is missing or holds an error."""
    content: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    result: dict[str, Any] = content.get("result", {})
    return result
