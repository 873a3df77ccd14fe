"""Several teachers as one: complete their options, and combine their networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from stkd_lightning.commands.config.compose import with_values
from stkd_lightning.commands.config.teachers import teachers_of
from stkd_lightning.commands.training.chain import of_run
from stkd_lightning.commands.training.devices import rank_device
from stkd_lightning.commands.training.loss_checks import example_loss
from stkd_lightning.commands.training.teacher import Teacher, check_score, freeze
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.about import name_of
from stkd_lightning.teacher.ensemble import Ensemble
from stkd_lightning.utilities.console import warn
from stkd_lightning.utilities.errors import InputError

# Options that a member takes from its ensemble where it leaves them open: null, no limit, or as the student's.
SHARED = ("min_accuracy", "dataset", "max_epochs", "max_steps", "limit_train_batches", "lr", "optimizer", "scheduler")
OPEN = (None, -1)


def complete_teacher(settings: DictConfig) -> DictConfig:
    """Return settings with all options of a teacher that is a student of another run, or that has members.

    Raises:
        InputError: a run has no student to read, or the temperature of an ensemble is not clear.
    """
    names = [name for name, _ in teachers_of(settings)]
    for name in names:
        settings = with_values(settings, _shared(name, OmegaConf.select(settings, name)))
    for name in reversed(names):  # members come before their ensemble, which is named after them
        node = OmegaConf.select(settings, name)
        if "run" in node:
            settings = with_values(settings, of_run(name, node))
        elif "members" in node:
            label = " + ".join(name_of(member.network) for member in node.members.values())
            values = {f"{name}.network.name": label, f"{name}.temperature": _temperature(name, node, settings)}
            settings = with_values(settings, values)
    return settings


def _shared(name: str, node: DictConfig) -> dict[str, Any]:
    """Return the values of options that members leave open, by dotted name."""
    shared = {option: node[option] for option in SHARED if "members" in node}
    return {
        f"{name}.members.{member}.{option}": OmegaConf.to_container(value, resolve=True)
        if isinstance(value, DictConfig)
        else value
        for member, child in (node.get("members") or {}).items()
        for option, value in shared.items()
        if OmegaConf.is_interpolation(child, option) or child[option] in OPEN
    }


def _temperature(name: str, node: DictConfig, settings: DictConfig) -> float:
    """Return the temperature at which an ensemble averages; warn where a loss reads its logits in another way.

    Raises:
        InputError: it is not set, and the loss has several.
    """
    parts = [part for part in example_loss(settings).modules() if getattr(part, "needs_teacher", True)]
    read = [getattr(part, "temperature", None) for part in parts]
    found = sorted({float(temperature) for temperature in read if isinstance(temperature, int | float)})
    if node.temperature is None and len(found) > 1:
        raise InputError(
            f"{name}.temperature: the loss has the temperatures {' and '.join(f'{t:g}' for t in found)}; "
            "set the one at which the teachers' probabilities are averaged"
        )
    learned = next((float(first().detach()) for first in read if callable(first)), None)
    temperature = float(next(iter(found), learned or 1.0) if node.temperature is None else node.temperature)
    beside = {t for part in parts for t in getattr(part, "other_temperatures", ())}
    others = [f"{t:g}" for t in sorted({*found, *beside}) if t != temperature]
    if others:
        warn(
            f"{name}.temperature={temperature:g}: the loss has {' and '.join(others)}, too, at which the ensemble is "
            "not the mean of its members"
        )
    if learned is not None:
        warn(
            f"{name}: the loss learns its temperature; the ensemble is the mean of its members only at {temperature:g}"
        )
    if any(getattr(part, "standardize", False) for part in parts):
        warn(f"{name}: the loss standardizes logits, so the ensemble is not the mean of its members")
    return temperature


def combine(
    settings: DictConfig, data: ArrayDataModule, cache: Path, find: Callable[[DictConfig], Teacher | None]
) -> Teacher | None:
    """Return the ensemble of a run's teachers; ``None`` if a member is missing that is not needed.

    Args:
        settings: with the options of ``complete_teacher``.
        data: of the run.
        cache: folder of scores.
        find: returns the teacher of settings.

    Raises:
        InputError: the ensemble is at chance level.
    """
    node, members = settings.teacher, {}
    for name in node.members:
        member = find(with_values(settings, {"teacher": node.members[name]}))
        if member is None:
            return None
        members[name] = member
    digests: dict[str, str] = {}
    for name, member in members.items():
        if (first := digests.setdefault(member.network.digest, name)) != name:
            warn(f"teacher.members.{name}: is the same network as {first}; set its seed or its checkpoint")
    networks: list[nn.Module] = [member.network.network for member in members.values()]
    weights = [(node.weights or {}).get(name, 1.0) for name in members]
    network = Ensemble(networks, weights, temperature=node.temperature, exclusive=data.task.exclusive)
    teacher = freeze(network, settings.trainer)
    source = f"ensemble of {', '.join(f'{name} ({member.source})' for name, member in members.items())}"
    loaded = any(member.fitted is None for member in members.values())
    check_score(teacher, data, node, source, cache, rank_device(settings.trainer), refuse=loaded)
    return Teacher(teacher, source, None)
