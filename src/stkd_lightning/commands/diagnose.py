"""``diagnostics.npz`` in a run's folder: what pictures of its selected student are made of."""

from pathlib import Path
from typing import cast

import torch
from omegaconf import OmegaConf
from rich.markup import escape
from torch import Tensor, nn

from stkd_lightning.commands.local_data import data_here
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.inference.load import checkpoint_file, load_student
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.models.build import build_network
from stkd_lightning.models.feature_hooks import logits_of
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.reporting.diagnose import diagnose
from stkd_lightning.reporting.diagnostics import FILE
from stkd_lightning.reporting.run import Run
from stkd_lightning.teacher.frozen import FrozenTeacher
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, reason

IMAGES = 2048  # looked at


def write_diagnostics(module: DistillationModule, data: ArrayDataModule, run_dir: Path, device: torch.device) -> None:
    """Look at the student that a finished run keeps; what fails here is a warning, since the run has its results.

    Args:
        module: ends with that student's weights.
        data: of the run.
        run_dir: with the run's checkpoints.
        device: to compute on.
    """
    try:
        module.load_state_dict(read_checkpoint(checkpoint_file(run_dir))["state_dict"])
        write(module.student, module.teacher, data, run_dir / FILE, device)
    except Exception as error:  # whatever a network, a disk or a device raises
        print_rank_zero(f"[yellow]warning: {run_dir / FILE}: not written ({escape(reason(error))})[/yellow]")


def diagnose_run(run: Run, teacher: Run | None, *, trust: bool, cache_dir: str | None = None) -> None:
    """Look at the student of a finished run, from what lies in its folder.

    Args:
        run: with a folder; its data must be here.
        teacher: a run on the same data, whose teacher the student is compared with; ``None``: with none.
        trust: build classes that are not this project's, as the configurations say.
        cache_dir: with prepared data; ``None``: the usual one.

    Raises:
        InputError: data, checkpoint or classes that are not here, damaged or not trusted.
    """
    folder = cast(Path, run.folder)
    data = data_here(run.config["dataset"], folder / "config.yaml", trust=trust, cache_dir=cache_dir)
    data.prepare_data()
    if data.arrays.digest != run.group.digest:
        raise InputError("its data have changed")
    student = load_student(folder, trust=trust)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    write(student, _teacher(teacher, data, trust=trust), data, folder / FILE, device)


def _teacher(run: Run | None, data: ArrayDataModule, *, trust: bool) -> FrozenTeacher | None:
    """Build the teacher that a run had."""
    if run is None:
        return None
    node = run.config["teacher"]
    if not trust:
        check_trusted({"teacher": node["network"]}, cast(Path, run.folder) / "config.yaml")
    network = build_network(
        OmegaConf.create(node["network"]),
        data,
        checkpoint=run.summary.teacher_checkpoint,
        input_size=node["input_size"],
        mean=node["mean"],
        std=node["std"],
    )
    return FrozenTeacher(network)


def write(
    student: nn.Module, teacher: FrozenTeacher | None, data: ArrayDataModule, path: Path, device: torch.device
) -> None:
    """Write the diagnostics of a student on up to 2,048 validation images, or test images where none are held out."""
    student, training = student.to(device).eval(), student.training

    def says(images: Tensor) -> Tensor:
        return logits_of(student(images))

    def taught(images: Tensor) -> Tensor:
        return asked(images, eager=True).logits

    asked = cast(FrozenTeacher, teacher and teacher.to(device))
    found = diagnose(
        says,
        taught if teacher else None,
        data.sample(IMAGES),
        num_classes=data.num_classes,
        device=device,
        mean=data.mean,
        std=data.std,
    )
    found.save(path)
    student.train(training)
