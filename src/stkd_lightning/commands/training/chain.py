"""A student of an earlier run as the teacher: Mirzadeh et al. 2020, "teacher assistant" (arXiv:1902.03393)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.about import name_of
from stkd_lightning.inference.load import checkpoint_file, has_checkpoint
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.models.start import without_start
from stkd_lightning.utilities.errors import InputError, reason


def of_run(name: str, node: DictConfig) -> dict[str, Any]:
    """Return the options of a teacher that are read from a run, by dotted name.

    Args:
        name: dotted name of the teacher.
        node: its options, with ``run`` and ``trust``.

    Raises:
        InputError: a folder without checkpoint, a checkpoint of another program, or a class that needs ``trust``.
    """
    run = Path(node.run)
    if run.is_dir() and not has_checkpoint(run):
        raise InputError(f"{name}.run={run}: is not the folder of a run; it has no checkpoints/best.ckpt or last.ckpt")
    checkpoint = checkpoint_file(run)
    origin = StudentProvenance.from_checkpoint(checkpoint)
    if not node.trust:
        try:
            check_trusted({"teacher": origin.network}, checkpoint)
        except InputError as error:
            raise InputError(str(error).replace("trust=true", f"{name}.trust=true")) from error
    lineage = _lineage(origin, checkpoint)
    return {
        f"{name}.checkpoint": str(checkpoint.absolute()),
        f"{name}.network": OmegaConf.to_container(without_start(OmegaConf.create(origin.network))),
        f"{name}.lineage": lineage,
    }


def _lineage(origin: StudentProvenance, checkpoint: Path) -> list[str]:
    """Return the names of a student, of its teacher, of the teacher of that, and so on.

    Raises:
        InputError: the checkpoint's configuration has another form, or texts that a configuration would resolve.
    """
    try:
        names = [name_of(origin.config["student"])]
        teacher = origin.config.get("teacher") if origin.teacher else None
        if isinstance(teacher, Mapping):
            names += list(teacher.get("lineage") or [name_of(teacher.get("network") or {})])
    except (AttributeError, LookupError, TypeError) as error:
        raise InputError(f"checkpoint {checkpoint}: its configuration has another form ({reason(error)})") from None
    if not all(isinstance(text, str) for text in names) or "${" in repr((names, origin.network)):
        raise InputError(f"checkpoint {checkpoint}: its configuration has names that are none, or interpolations")
    return names


def check_classes(node: DictConfig, data: ArrayDataModule) -> None:
    """Refuse a run whose student has another task or other classes than the data.

    Args:
        node: options of the teacher, with those of ``of_run``.
        data: of the run that it teaches.

    Raises:
        InputError: names what differs.
    """
    known, place = StudentProvenance.from_checkpoint(Path(node.checkpoint)).data, f"teacher.run={node.run}"
    if known.task != data.task.name:
        raise InputError(f"{place}: its student is for {known.task}, and {data.name} is data of {data.task.name}")
    own, needed = tuple(known.class_names), tuple(data.class_names)
    if len(own) != len(needed):
        raise InputError(f"{place}: its student has {len(own)} classes, and {data.name} has {len(needed)}")
    if own != needed:
        first, instead = next(pair for pair in zip(own, needed, strict=True) if pair[0] != pair[1])
        raise InputError(
            f"{place}: its student learned other classes ({known.name}), for example {first!r} instead of {instead!r}"
        )


def described(node: DictConfig) -> str:
    """Return the source of a teacher in words, such as ``run outputs/a: resnet20 taught by resnet56``."""
    return f"run {node.run}: {' taught by '.join(node.lineage)}"
