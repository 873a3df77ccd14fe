"""A whole run: data -> teacher -> baseline -> student -> test -> summary."""

import dataclasses
from pathlib import Path
from typing import Any

import lightning as L
from hydra.utils import instantiate
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from omegaconf import DictConfig, OmegaConf
from torch import nn

from stkd_lightning.alone import Alone, Recipe, data_facts, describe, find, plain, train_once
from stkd_lightning.building import build_network
from stkd_lightning.cache import cache_root
from stkd_lightning.callbacks import Provenance, Throughput
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.errors import InputError
from stkd_lightning.fitting import Fitted, checkpoints, fit_and_test, quiet
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.models.inputs import AdaptedInput
from stkd_lightning.module import DistillationModule
from stkd_lightning.reporting.console import process_rank, say
from stkd_lightning.reporting.summary import Summary, environment, table, write_json
from stkd_lightning.teacher import FrozenTeacher, accuracy, check_accuracy, default_min_accuracy


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A teacher and where it came from; ``figures`` are those of its own training, if that was here."""

    network: FrozenTeacher
    source: str
    figures: Fitted | None = None


def train(config: DictConfig) -> float:
    """Run a composed ``train.yaml`` to its end.

    Args:
        config: resolved by Hydra; ``run_dir`` receives everything that the run leaves.

    Returns:
        The last student's accuracy on validation images, else on test images, for sweepers that optimize.

    Raises:
        InputError: a mistake that the user can mend.
    """
    quiet()
    loss: nn.Module = instantiate(config.loss)
    mixup = instantiate(config.mixup)
    data: ArrayDataModule = instantiate(config.dataset)
    data.prepare_data()
    data.train_dataloader()  # refuses a batch larger than the data before anything is trained
    config.num_classes = data.num_classes
    needs_teacher = bool(getattr(loss, "needs_teacher", True))
    student = build_network(config.student, data, seed=config.seed)
    optimizer, schedule = instantiate(config.optimizer), instantiate(config.scheduler)

    cache = cache_root(config.cache_dir) / "trained"
    teacher = _teacher(config, data, cache, needed=needs_teacher)
    baseline = train_once(_baseline_recipe(config), data, cache) if config.baseline else None

    module = DistillationModule(student, loss, teacher.network if teacher else None, mixup, optimizer, schedule)
    trainer = _trainer(config, data)
    say(f"student: training {describe(config.student)} on {data.name} for {config.trainer.max_epochs} epochs")
    fitted = fit_and_test(module, data, trainer)

    summary = _summary(config, data, student, fitted, teacher, baseline)
    if trainer.is_global_zero:
        run_dir = Path(config.run_dir)
        write_json(run_dir / "summary.json", summary)
        _log_results(trainer.loggers, summary)
        say(table(summary))
        say(f"{run_dir}: summary.json, config.yaml, metrics.csv, checkpoints/")
        _say_offline(trainer.loggers)
    return (fitted.validation or fitted.test["last"])["accuracy"]


def _teacher(config: DictConfig, data: ArrayDataModule, cache: Path, *, needed: bool) -> Teacher | None:
    """Load the teacher, or train it; without need, take only one that is there already."""
    node = config.teacher
    recipe = _teacher_recipe(config)
    if node.checkpoint is None:
        alone = train_once(recipe, data, cache) if needed else find(recipe, data, cache)
        if alone is None:
            return None
        network = build_network(node.network, data, checkpoint=str(alone.checkpoint))
        source, fresh, figures = f"trained here, {alone.key}", alone.fresh, alone.fitted
    else:
        own = node.checkpoint == "pretrained"
        if own and not node.network.get("pretrained"):
            raise InputError("teacher.checkpoint=pretrained: needs a network with teacher.network.pretrained=true")
        wanted = {name: node[name] for name in ("input_size", "mean", "std")}
        network = build_network(node.network, data, checkpoint=None if own else node.checkpoint, **wanted)
        source, fresh, figures = str(node.checkpoint), False, None
    if isinstance(network, AdaptedInput):
        say(f"teacher: its input is resized or normalized anew, as it was trained: {source}")
    teacher = FrozenTeacher(network)
    _check_teacher(teacher, data, node.min_accuracy, f"{describe(node.network)} ({source})", fresh=fresh)
    return Teacher(teacher, source, figures)


def _check_teacher(
    teacher: FrozenTeacher, data: ArrayDataModule, minimum: float | None, source: str, *, fresh: bool
) -> None:
    """Refuse a loaded teacher at chance level; of one that was just trained, only warn."""
    minimum = default_min_accuracy(data.num_classes) if minimum is None else minimum
    if not minimum:
        return
    import torch

    loader = data.val_dataloader() or data.plain_train_dataloader()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    value = accuracy(teacher, loader, device)
    say(f"teacher: {source}, accuracy {value:.1%} on {'validation' if data.has_validation else 'training'} images")
    try:
        check_accuracy(value, minimum=minimum, source=source)
    except InputError as error:
        if not fresh:
            raise
        say(f"[yellow]warning: {error}[/yellow]")


def _teacher_recipe(config: DictConfig) -> Recipe:
    node = config.teacher
    trainer = OmegaConf.merge(config.trainer, {"max_epochs": node.max_epochs})
    return Recipe("teacher", node.network, config.dataset, node.optimizer, node.scheduler, trainer, node.seed)


def _baseline_recipe(config: DictConfig) -> Recipe:
    return Recipe(
        "baseline", config.student, config.dataset, config.optimizer, config.scheduler, config.trainer, config.seed
    )


def _trainer(config: DictConfig, data: ArrayDataModule) -> L.Trainer:
    run_dir = Path(config.run_dir)
    if process_rank() == 0:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    loggers: list[Logger] = [instantiate(node) for node in config.logger.values()]
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_hyperparams(plain(config))
    facts = {"config": plain(config), "data": data_facts(data)}
    callbacks = [instantiate(node) for node in config.callbacks.values()]
    callbacks += [Throughput(), Provenance(facts), *checkpoints(run_dir / "checkpoints", select=data.has_validation)]
    return instantiate(config.trainer, callbacks=callbacks, logger=loggers, default_root_dir=str(run_dir))


def _network(config: DictConfig, network: nn.Module, data: ArrayDataModule, test: dict[str, Any]) -> Summary:
    return {
        "network": describe(config),
        "parameters": parameters(network),
        "flops": flops(network, data.image_size),
        "test": test,
    }


def _summary(
    config: DictConfig,
    data: ArrayDataModule,
    student: nn.Module,
    fitted: Fitted,
    teacher: Teacher | None,
    baseline: Alone | None,
) -> Summary:
    summary: Summary = {
        "seed": config.seed,
        "loss": describe(config.loss),
        "data": data_facts(data) | {"digest": data.arrays.digest},
        "student": _network(config.student, student, data, fitted.test)
        | {"validation": fitted.validation, "selected_epoch": fitted.selected_epoch},
        "images_per_second": fitted.images_per_second,
        "seconds": fitted.seconds,
        **environment(),
    }
    if teacher:
        seen = {"last": {"accuracy": fitted.test["last"]["teacher_accuracy"]}}
        test = {"last": teacher.figures.test["last"]} if teacher.figures else seen
        summary["teacher"] = _network(config.teacher.network, teacher.network.network, data, test)
        summary["teacher"]["source"] = teacher.source
    if baseline:
        summary["baseline"] = _network(config.student, student, data, baseline.fitted.test) | {"key": baseline.key}
    return summary


def _log_results(loggers: list[Logger], summary: Summary) -> None:
    """Give dashboards the test figures: the last student's, and the selected one's under ``selected/``."""
    test = summary["student"]["test"]
    results = {f"test/{k}": v for k, v in test["last"].items()}
    results |= {f"selected/{k}": v for k, v in test["selected"].items()}
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(results | {"summary": summary})
        elif not isinstance(logger, CSVLogger):  # a CSV file's columns are those of training
            logger.log_metrics(results)
        logger.finalize("success")


def _say_offline(loggers: list[Logger]) -> None:
    import wandb

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            folder = Path(logger.experiment.dir).parent
            if logger.experiment.offline:
                say(f"W&B: offline; upload it with: wandb sync {folder}")
            wandb.finish(quiet=True)
