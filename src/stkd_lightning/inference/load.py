"""A student from a run, a checkpoint or an export."""

from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import nn

from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts, of_checkpoint
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.models.build import build_network, without_start
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.files import BEST, LAST


def load_student(path: str | Path, *, trust: bool = False) -> Student:
    """Load a student, on the CPU, in float32.

    Args:
        path: the folder of a run (its selected, else its last student), a checkpoint of this project, or a folder
            that ``python -m stkd_lightning.export`` wrote.
        trust: build classes that are not this project's, and run programs, as the file says.

    Raises:
        InputError: it cannot be read, or wants more trust than it is given.
    """
    from stkd_lightning.inference.export_folder import is_export, load_export  # which knows what a student is

    path = Path(path)
    if is_export(path):
        return load_export(path, trust=trust)
    checkpoint = checkpoint_file(path)
    facts = of_checkpoint(checkpoint)
    if not trust:
        check_trusted({"student": facts.network}, checkpoint)
    return Student(build(facts, checkpoint), facts)


def build(facts: StudentFacts, weights: Path) -> nn.Module:
    """Build the network of a student, and load its weights.

    Raises:
        InputError: it cannot be built, or weights that do not fit.
    """
    try:
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, and all replaced
            network = build_network(
                without_start(OmegaConf.create(facts.network)),
                facts,
                seed=None,
                checkpoint=str(weights),
                input_size=facts.input.get("size"),
                mean=facts.input.get("mean"),
                std=facts.input.get("std"),
            )
        return network.float().eval()
    except InputError:
        raise
    except Exception as error:  # whatever its class raises for the options that the file names
        cause = error.__cause__ or error
        raise InputError(f"checkpoint {weights}: its network cannot be built ({reason(cause)})") from error


def checkpoint_file(path: Path) -> Path:
    """Return a checkpoint itself; of a run's folder its selected, else its last student.

    Raises:
        InputError: neither is there.
    """
    if not path.is_dir():
        return path
    for name in (BEST, LAST):
        for folder in (path / "checkpoints", path):
            if (folder / name).is_file():
                return folder / name
    raise InputError(f"checkpoint {path}: a folder without checkpoints/best.ckpt or last.ckpt")
