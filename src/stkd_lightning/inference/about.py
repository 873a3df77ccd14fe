"""The origin of a student and its figures, as far as a checkpoint and its run's summary tell them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stkd_lightning.data.description import DataDescription
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import BEST, LAST
from stkd_lightning.utilities.plain import Count, checked
from stkd_lightning.utilities.untrusted import read_json


@dataclass(frozen=True)
class NetworkFigures:
    """The size of a network and its figures on the test images."""

    name: str | None = None
    parameters: Count | None = None
    flops: Count | None = None
    test: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class About:
    """The fields of ``StudentFacts.about``; ``student``, ``alone`` and ``teacher`` have figures."""

    name: str | None = None
    data: dict[str, str | None] | None = None
    method: str | None = None
    objective: dict[str, Any] | None = None
    mixup: dict[str, Any] | None = None
    seed: int | None = None
    epochs: int | float | None = None
    batch_size: int | None = None
    selection: str | None = None
    student: NetworkFigures | None = None
    alone: NetworkFigures | None = None
    teacher: NetworkFigures | None = None
    test_images: Count | None = None


def check_about(content: Any, place: str) -> dict[str, Any]:
    """Return the origin of a student with each field checked, without fields that are ``None``.

    Args:
        content: the fields of ``About``.
        place: name of the file for messages.

    Raises:
        InputError: names the field that has another type.
    """
    try:
        known = _without_none(checked(About, content))
    except InputError as error:
        raise InputError(f"{place}: its about is not valid: {error}") from error
    return {k: _without_none(v) if isinstance(v, NetworkFigures) else v for k, v in known.items()}


def _without_none(fields: About | NetworkFigures) -> dict[str, Any]:
    return {name: value for name, value in vars(fields).items() if value is not None}


def about_checkpoint(origin: StudentProvenance, path: Path) -> dict[str, Any]:
    """Return the origin of a checkpoint, without paths of the machine that wrote it."""
    config, data = origin.config, origin.data
    summary = _summary(path, data)
    chosen = "last" if path.name == LAST else "selected" if path.name == BEST else None
    about = {
        "name": name_of(config["student"]),
        "data": {"name": data.name, "digest": data.digest},
        "method": config.get("method"),
        "objective": config.get("loss"),
        "mixup": config.get("mixup"),
        "seed": config.get("seed"),
        "epochs": _node(config.get("trainer")).get("max_epochs"),
        "batch_size": config["dataset"].get("batch_size"),
        "selection": chosen,
        "student": _figures(summary.get("student"), chosen) if chosen else None,
        "alone": _figures(summary.get("baseline"), chosen or "last"),
    }
    if origin.teacher:  # digest of the teacher that the loss used
        network = _node(_node(config.get("teacher")).get("network"))
        about["teacher"] = {"name": name_of(network), **(_figures(summary.get("teacher"), "last") or {})}
    return {name: value for name, value in about.items() if value is not None}


def name_of(network: Mapping[str, Any] | DictConfig) -> str:
    """Return the name of a network: its ``name``, otherwise its class.

    For classes of this project the encoder or the width follows, such as ``PSPNet-resnet18`` and ``DilatedResNet-w8``.
    """
    target = str(network.get("_target_", ""))
    name = str(network.get("name") or target.rpartition(".")[2])
    if not target.startswith("stkd_lightning."):
        return name
    name = name.rstrip("/").rpartition("/")[2] if network.get("config") else name  # org/model, or a folder
    encoder, width = network.get("encoder"), network.get("width")
    return "-".join([name, *[str(encoder)] * bool(encoder), *[f"w{width}"] * bool(width)])


def _summary(path: Path, data: DataDescription) -> dict[str, Any]:
    """Return the summary of a checkpoint's run; an empty one if it is missing or belongs to other data."""
    candidates = [folder / "summary.json" for folder in (path.parent, path.parent.parent)]
    try:
        summary = read_json(next(file for file in candidates if file.is_file()))
        found = DataDescription.from_plain(summary["data"])
        same = (found.digest, found.class_names) == (data.digest, data.class_names)
        return dict(summary) if same else {}
    except (StopIteration, OSError, ValueError, LookupError, TypeError):  # InputError is a ValueError
        return {}


def _figures(row: Any, chosen: str) -> dict[str, Any] | None:
    """Return a network's size and its figures on the test images."""
    if not isinstance(row, dict):
        return None
    tests = _node(row.get("test"))
    test = _node(tests.get(chosen) or tests.get("last"))
    size = {name: row[name] for name in ("parameters", "flops") if _is_number(row.get(name))}
    return {**size, "test": {name: value for name, value in test.items() if _is_number(value)}}


def _node(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
