"""Networks trained without a teacher, once, and kept: the teacher where no checkpoint is given, and the baseline."""

import dataclasses
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.utils import instantiate
from lightning.pytorch.plugins.environments import LightningEnvironment
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.callbacks import Checkpoints, ProgressBar, Provenance, Seeding, Throughput
from stkd_lightning.callbacks.checkpoint_folder import newest_whole
from stkd_lightning.commands.training.fit import Fitted, fit_and_test
from stkd_lightning.commands.training.precision import (
    count_steps,
    device_type,
    has_bfloat16,
    resolve_compile,
    resolve_precision,
)
from stkd_lightning.data.description import DataDescription
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.inference.student_info import name_of
from stkd_lightning.losses.cross_entropy import CrossEntropyLoss
from stkd_lightning.models.build import build_network, input_facts
from stkd_lightning.models.cost import flops
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.reporting.loggers.metrics_csv import MetricsFile
from stkd_lightning.reporting.run_options import DATA_LOCATION_OPTIONS, INCIDENTAL, LOADING_OPTIONS
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import write_json
from stkd_lightning.utilities.paths import key_of
from stkd_lightning.utilities.rank import process_rank
from stkd_lightning.utilities.redaction import redacted

TRAINED = "trained"  # in the cache
RECIPE = 3  # raised when a change of the code changes what the same settings train


@dataclass(frozen=True)
class Recipe:
    """Everything that shapes a network trained alone.

    Attributes:
        role: ``teacher`` or ``baseline``, for what is printed.
        network: node with ``_target_``.
        dataset: node with ``_target_``.
        optimizer: node with ``_target_`` and ``_partial_``.
        scheduler: node with ``_target_``.
        trainer: node with ``_target_``.
        seed: of first weights, order and augmentation.
        compile: ``True``, ``False`` or ``"auto"``; shapes the rounding only.
    """

    role: str
    network: DictConfig
    dataset: DictConfig
    optimizer: DictConfig
    scheduler: DictConfig
    trainer: DictConfig
    seed: int
    compile: bool | str = "auto"

    def key(self, data: ArrayDataModule) -> str:
        """Return what stands for the result: equal settings on equal data give equal keys."""
        nodes = {
            name: plain(getattr(self, name)) for name in ("network", "dataset", "optimizer", "scheduler", "trainer")
        }
        if nodes["trainer"]["precision"] == "auto":  # then what the hardware has decides
            nodes["trainer"]["precision"] = ["auto", has_bfloat16(device_type(self.trainer))]
        nodes["trainer"] = {k: v for k, v in nodes["trainer"].items() if k not in INCIDENTAL}
        nodes["dataset"] = {
            k: v for k, v in nodes["dataset"].items() if k not in DATA_LOCATION_OPTIONS | LOADING_OPTIONS
        }
        start = nodes["network"].get("weights")
        if start is not None:  # what is in the file counts, not its name
            nodes["network"]["weights"] = hashlib.sha256(Path(start).read_bytes()).hexdigest()
        return key_of([RECIPE, nodes, self.seed, data.arrays.digest])


@dataclass(frozen=True)
class PretrainedNetwork:
    """A network trained alone: its checkpoint, its figures, and the key it is kept under."""

    checkpoint: Path
    fitted: Fitted
    key: str


def find(recipe: Recipe, data: ArrayDataModule, cache: Path) -> PretrainedNetwork | None:
    """Return the network of a recipe if it has been trained before."""
    folder = cache / recipe.key(data)
    if not folder.is_dir():
        return None
    figures = json.loads((folder / "figures.json").read_text())
    return PretrainedNetwork(folder / "last.ckpt", Fitted(**figures), folder.name)


def get_or_train(recipe: Recipe, data: ArrayDataModule, cache: Path) -> PretrainedNetwork:
    """Return the network of a recipe, trained now if it never was.

    The first rank trains on one device under a lock, so that parallel jobs of a sweep share the result; other ranks
    wait for it without the lock.

    Args:
        recipe: what to train.
        data: prepared.
        cache: holds a folder for each recipe.
    """
    found = find(recipe, data, cache)
    if found:
        print_rank_zero(f"{recipe.role}: trained before, reused from {found.checkpoint.parent}")
        return found
    if process_rank() > 0:
        return _wait(recipe, data, cache)
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / recipe.key(data)
    with FileLock(folder.with_suffix(".lock")):
        found = find(recipe, data, cache)
        if found:
            return found
        partial = folder.with_name(f"{folder.name}.partial")
        fitted = _train(recipe, partial)  # goes on if it was interrupted
        if not (partial / "last.ckpt").is_file():
            raise RuntimeError(f"{recipe.role}: its training left no checkpoint in {partial}")
        write_json(partial / "figures.json", dataclasses.asdict(fitted))
        os.replace(partial, folder)
    return PretrainedNetwork(folder / "last.ckpt", fitted, folder.name)


def _wait(recipe: Recipe, data: ArrayDataModule, cache: Path) -> PretrainedNetwork:
    start, told = time.monotonic(), False
    while (found := find(recipe, data, cache)) is None:
        if not told and time.monotonic() - start > 60:
            print(f"rank {process_rank()} waits for the first rank's {recipe.role} in {cache}", flush=True)
            told = True
        time.sleep(0.5)
    return found


def _train(recipe: Recipe, folder: Path) -> Fitted:
    data: ArrayDataModule = instantiate(recipe.dataset, seed=recipe.seed)
    network = build_network(recipe.network, data, seed=recipe.seed)
    device = device_type(recipe.trainer)
    precision = resolve_precision(recipe.trainer.precision, network, device)
    steps = count_steps(recipe.trainer, len(data.train_dataloader()))
    images = steps * data.batch_size
    work = 3 * flops(network, data.image_size) * images
    compile = resolve_compile(recipe.compile, device=device, flops=work, steps=steps)
    module = DistillationModule(
        network,
        CrossEntropyLoss(),
        optimizer=instantiate(recipe.optimizer),
        schedule=instantiate(recipe.scheduler),
        compile=compile,
        task=data.task,
    )
    print_rank_zero(
        announcement(recipe.role, recipe.network, data, recipe.trainer, precision=precision, compile=compile)
    )
    config = redacted({"student": plain(recipe.network), "dataset": plain(recipe.dataset)})
    origin = StudentProvenance(config, DataDescription.of(data), input_facts(network, data))
    kept = Checkpoints(folder, select=data.has_validation, score=data.task.score)
    callbacks = [Throughput(), ProgressBar(), Provenance(origin), Seeding(recipe.seed), kept]
    # One device, and no process group, even inside a distributed job.
    trainer = instantiate(
        recipe.trainer,
        devices=1,
        num_nodes=1,
        strategy="auto",
        precision=precision,
        plugins=[LightningEnvironment()],
        callbacks=callbacks,
        logger=MetricsFile(folder),
        default_root_dir=str(folder),
    )
    checkpoint = newest_whole(folder)
    if checkpoint:
        shapes = {k: v.shape for k, v in module.state_dict().items()}
        if {k: v.shape for k, v in read_checkpoint(checkpoint)["state_dict"].items()} != shapes:
            raise InputError(f"{recipe.role}: {folder} holds the beginning of another network's training; delete it")
        print_rank_zero(f"{recipe.role}: goes on where its training was interrupted")
    return fit_and_test(module, data, trainer, checkpoint)


def plain(config: DictConfig) -> Any:
    """Return a resolved node as plain containers."""
    return OmegaConf.to_container(config, resolve=True)


def announcement(
    role: str, network: DictConfig, data: ArrayDataModule, trainer: DictConfig, *, precision: str, compile: bool
) -> str:
    """Return the line that announces a training."""
    how = f"{precision}, compiled" if compile else precision
    return f"{role}: training {name_of(network)} on {data.name} for {trainer.max_epochs} epochs ({how})"
