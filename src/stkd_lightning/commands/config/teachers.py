"""The teachers of a configuration: that of the run, and those that an ensemble is made of."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.files import check_exists

OF_CHECKPOINT = ("checkpoint_key", "input_size", "mean", "std")
BUILT = ("pretrained", "as_built")  # in place of a file: the network has its weights when it is built


def teachers_of(config: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Yield the dotted names and the nodes of a run's teacher, of its members, of their members, and so on."""
    if isinstance(config.get("teacher"), DictConfig):
        yield from _with_members("teacher", config.teacher)


def _with_members(name: str, node: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    yield name, node
    members = node.get("members")
    for member, child in _named(members):
        if isinstance(child, DictConfig):
            yield from _with_members(f"{name}.members.{member}", child)


def _named(values: Any) -> list[tuple[str, Any]]:
    """Return the values of a mapping with their names; none for another value."""
    return [(str(name), values[name]) for name in values] if isinstance(values, DictConfig) else []


def check_teachers(config: DictConfig) -> None:
    """Refuse teachers whose files do not exist, or whose options contradict each other.

    Raises:
        InputError: names the option.
    """
    for name, node in teachers_of(config):
        if "members" in node:
            _check_members(name, node)
        elif "run" in node:
            _check_run(name, node)
        else:
            _check_checkpoint(name, node)


def _check_checkpoint(name: str, node: DictConfig) -> None:
    if node.checkpoint is None:
        for option in OF_CHECKPOINT:
            if node[option] is not None:
                raise InputError(
                    f"{name}.{option}: describes a teacher's checkpoint, but {name}.checkpoint is not set; set it too"
                )
    elif node.checkpoint not in BUILT:
        checkpoint = Path(validation.path(f"{name}.checkpoint", node.checkpoint))
        if near := not checkpoint.exists() and get_close_matches(str(checkpoint), BUILT, n=1):
            raise InputError(f"{name}.checkpoint={checkpoint}: no such file; did you mean {near[0]}?")
        check_exists(checkpoint)
    if not isinstance(node.checkpoint_key, str | None):
        raise InputError(f"{name}.checkpoint_key={node.checkpoint_key}: must be a name, such as student")
    if node.checkpoint == "as_built" and node.checkpoint_key is not None:
        raise InputError(f"{name}.checkpoint_key: chooses weights of a file, and as_built reads none; leave it out")


def _check_members(name: str, node: DictConfig) -> None:
    members = node.members
    if not isinstance(members, DictConfig) or not members:
        raise InputError(f"{name}.members: an ensemble needs members; add one with +teacher@{name}.members.a=resnet56")
    for member, child in _named(members):
        if not isinstance(child, DictConfig) or "checkpoint" not in child or "network" not in child:
            raise InputError(
                f"{name}.members.{member}: is no teacher; add it with +teacher@{name}.members.{member}=CHOICE"
            )
        for option, default in (("replay", False), ("look_ahead", 1)):
            if child.get(option, default) != default:
                raise InputError(f"{name}.members.{member}.{option}: is an option of the ensemble; set {name}.{option}")
    _refuse(name, node, f"an ensemble has none; set {name}.members.{_named(members)[0][0]}.{{}}")
    if not isinstance(node.weights, Mapping | None):
        raise InputError(f"{name}.weights={node.weights}: must be weights by member, such as {{a: 2, b: 1}}")
    for member, weight in _named(node.weights):
        if member not in members:
            raise unknown(f"{name}.weights", member, map(str, members))
        validation.positive(f"{name}.weights.{member}", weight)


def _check_run(name: str, node: DictConfig) -> None:
    run = Path(validation.path(f"{name}.run", node.run))
    if not run.exists():
        near = sorted(path.name for path in run.parent.glob("*") if path.is_dir())[:5]
        raise InputError(f"{name}.run={run}: no such folder" + (f"; there: {', '.join(near)}" if near else ""))
    _refuse(name, node, f"is read from {name}.run; leave it out")
    validation.switch(f"{name}.trust", node.trust)


def _refuse(name: str, node: DictConfig, instead: str) -> None:
    """Refuse the options of a single checkpoint.

    Raises:
        InputError: one is set; ends in ``instead``, with the option's name in place of braces.
    """
    for option in ("checkpoint", *OF_CHECKPOINT):
        if node[option] is not None:
            raise InputError(f"{name}.{option}: {instead.format(option)}")
