"""Evaluate a student from its checkpoint."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.table import Table

from stkd_lightning.callbacks import FirstClasses, ProgressBar
from stkd_lightning.commands.chosen_run import student_path
from stkd_lightning.commands.class_results import class_results, print_classes
from stkd_lightning.commands.evaluate_figures import SPLITS, write_class_figures, write_figures
from stkd_lightning.commands.local_data import check_classes, load_local_data
from stkd_lightning.commands.robustness import check_distortable, mean_score, robustness, robustness_table
from stkd_lightning.commands.run_teacher import run_teacher
from stkd_lightning.commands.training.fit import quiet, with_bar
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.inference.load import checkpoint_file
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.inference.student import building
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.losses.cross_entropy import CrossEntropyLoss
from stkd_lightning.models.build import build_network
from stkd_lightning.tasks.base import ClassMetric
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.tasks.segmentation import Segmentation
from stkd_lightning.tasks.segmentation_metrics import loggable
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.files import write_json

BATCH = 256  # images of a batch of a classifier; a segmentation network has the batches of its training


def evaluate(config: DictConfig) -> float:
    """Run a composed ``evaluate.yaml``: print the metrics of a student, and write them and figures where it is wanted.

    Args:
        config: the checked configuration.

    Returns:
        The task's score, for example the accuracy in [0, 1].

    Raises:
        InputError: the checkpoint is not of this project, needs an untrusted class, or does not fit the data.
    """
    quiet()
    if config.split not in SPLITS:
        raise unknown("split", str(config.split), SPLITS)
    path = checkpoint_file(student_path(Path(config.checkpoint)))
    origin = StudentProvenance.from_checkpoint(path)
    if not config.trust:
        check_trusted({"student": origin.network}, path)
    data = _data(origin, path, config)
    check_classes(data, origin.data.class_names, path)
    with building(path):
        network = OmegaConf.create(origin.network)
        student = build_network(network, data, checkpoint=str(path), compare_first=True)
    classifies, needed = isinstance(data.task, Classification), config.with_teacher
    is_compared = needed is True or (needed == "auto" and classifies and config.figures is not None)
    teacher = run_teacher(path, data, needed, trust=config.trust) if is_compared else None
    module = DistillationModule(student, CrossEntropyLoss(), teacher, task=data.task)
    classes = FirstClasses()
    callbacks = [*with_bar(config.trainer, [ProgressBar()]), *[classes] * classifies]
    trainer = instantiate(config.trainer, callbacks=callbacks, logger=False, enable_checkpointing=False)
    loader = data.test_dataloader() if config.split == "test" else data.val_dataloader()
    if isinstance(loader, list):
        raise InputError(f"split=val: {data.name} has no validation samples (dataset.validation_fraction=0)")
    single = data.task.of_classes
    if config.corruptions:
        check_distortable(loader)
    metrics = {k.removeprefix("test/"): v for k, v in trainer.test(module, loader, verbose=False)[0].items()}
    for name, value in metrics.items():
        if single is None or not name.startswith(single.prefix):
            print_rank_zero(f"{config.split}/{name}: {value:.4f}")
    if single is not None:
        print_rank_zero(_class_table(data.class_names, metrics, single))
    images = classes.images() if classifies else None
    if images is not None:
        print_classes(images, data.class_names)
    alone = DistillationModule(student, CrossEntropyLoss(), task=data.task)
    found = robustness(trainer, alone, loader, data.task.score) if config.corruptions else {}
    if found:
        print_rank_zero(robustness_table(found, metrics, data.task.score))
        mean = mean_score(found, data.task.score)
        print_rank_zero(f"{config.split}/{data.task.score.name} on distorted images, mean: {mean:.4f}")
    if config.figures is not None:
        folder, device = Path(config.figures), trainer.strategy.root_device
        if images is None:
            files = write_figures(folder, student, data, loader, metrics, config.split, device)
        else:
            files = write_class_figures(folder, images, data, loader, config.split)
        print_rank_zero(f"{folder}: {', '.join(files)}")
    if config.output is not None:
        output = Path(config.output)
        more: dict[str, Any] = {"corruptions": found} if found else {}
        more |= {} if images is None else class_results(images, data.class_names)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, {"checkpoint": str(path), "split": config.split, "data": data.name, **metrics} | more)
    return float(metrics[data.task.score.name])


def _data(origin: StudentProvenance, path: Path, config: DictConfig) -> ArrayDataModule:
    """Return the data of the student's run, with the options of the evaluation.

    Raises:
        InputError: the data cannot be built, or a window for a classifier.
    """
    is_dense = origin.data.task == Segmentation.name
    if config.window is not None and not is_dense:
        raise InputError("window: is for segmentation, but this student classifies whole images; leave it out")
    with building(path, "data"):
        return load_local_data(
            origin.config["dataset"] | ({} if config.window is None else {"window": list(config.window)}),
            path,
            trust=config.trust,
            cache_dir=config.cache_dir,
            data_dir=config.data_dir,
            download=config.data_dir is not None,  # not into a folder that the checkpoint chose
            batch_size=BATCH if config.batch_size is None and not is_dense else config.batch_size,
            evaluation_batch_size=config.batch_size,
        )


def _class_table(names: Sequence[str], metrics: Mapping[str, float], single: ClassMetric) -> Table:
    """Return the table of the metric of each class; empty for a class that occurs in no image and in no prediction."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold")
    table.add_column(f"{single.label}, %", justify="right")
    for name in names:
        value = metrics[f"{single.prefix}{loggable(name)}"]
        table.add_row(name, f"{100 * value:.2f}" if math.isfinite(value) else "")
    return table
