"""Networks trained once and cached: the teacher, if no checkpoint is given, the baseline, and a student's front."""

import dataclasses
import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.plugins.environments import LightningEnvironment
from omegaconf import DictConfig, OmegaConf
from torch import nn

from stkd_lightning.callbacks import Checkpoints, ProgressBar, Provenance, Seeding, Throughput
from stkd_lightning.callbacks.checkpoint_folder import newest_whole
from stkd_lightning.callbacks.checkpoints import NEWER_FIELDS
from stkd_lightning.commands.training.devices import first_device
from stkd_lightning.commands.training.fit import Fitted, fit_and_test, with_bar
from stkd_lightning.commands.training.limits import count_steps
from stkd_lightning.commands.training.optimizer import optimizer_factory
from stkd_lightning.commands.training.precision import device_type, has_bfloat16, resolve_compile, resolve_precision
from stkd_lightning.data.description import DataDescription
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.inference.about import name_of
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.losses.cross_entropy import CrossEntropyLoss
from stkd_lightning.models.build import build_network, input_facts
from stkd_lightning.models.cost import flops
from stkd_lightning.models.start import DIGEST, START
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.reporting.loggers.metrics_csv import MetricsFile
from stkd_lightning.reporting.run_options import INCIDENTAL, data_options
from stkd_lightning.tasks.base import Task
from stkd_lightning.teacher.frozen import FrozenTeacher
from stkd_lightning.utilities.cache import locked, mark_used, set_aside
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import LAST, write_json
from stkd_lightning.utilities.paths import key_of
from stkd_lightning.utilities.rank import process_rank
from stkd_lightning.utilities.redaction import redacted
from stkd_lightning.utilities.text import printable

TRAINED = "trained"  # folder in the cache
FIGURES = "figures.json"
RECIPE = 3  # raised when a change of the code changes what the same settings train


@dataclass(frozen=True)
class Recipe:
    """All settings that determine a network trained once; its subclasses train for another objective.

    Attributes:
        role: ``teacher`` or ``baseline``, for messages.
        network: node with ``_target_``.
        dataset: node with ``_target_``.
        optimizer: node with ``_target_`` and ``_partial_``.
        scheduler: node with ``_target_``.
        trainer: node with ``_target_``.
        seed: seed of the initial weights, the data order and augmentation.
        compile: ``True``, ``False`` or ``"auto"``; changes the rounding only, so it is not part of the key.
        digest: of the data, where they are not those of the run.
    """

    role: str
    network: DictConfig
    dataset: DictConfig
    optimizer: DictConfig
    scheduler: DictConfig
    trainer: DictConfig
    seed: int
    compile: bool | str = "auto"
    digest: str | None = None

    def key(self, data: ArrayDataModule) -> str:
        """Return the cache key: equal settings on equal data give equal keys."""
        nodes = {
            name: plain(getattr(self, name)) for name in ("network", "dataset", "optimizer", "scheduler", "trainer")
        }
        if nodes["trainer"]["precision"] == "auto":  # the hardware decides
            nodes["trainer"]["precision"] = ["auto", has_bfloat16(device_type(self.trainer))]
        nodes["trainer"] = {k: v for k, v in nodes["trainer"].items() if k not in INCIDENTAL}
        nodes["dataset"] = data_options(nodes["dataset"])
        nodes["network"] = _with_digests(nodes["network"])
        return key_of([RECIPE, nodes, self.seed, self.digest or data.arrays.digest])

    @property
    def named(self) -> DictConfig:
        """The node that names the network, for messages."""
        return self.network

    def task(self, data: ArrayDataModule) -> Task:
        """Return what the network predicts."""
        return data.task

    def build(self, data: ArrayDataModule, **options: Any) -> nn.Module:
        """Build the network; see ``build_network`` for the options."""
        return build_network(self.network, data, **options)

    def objective(self) -> tuple[nn.Module, FrozenTeacher | None]:
        """Return the loss, and the teacher that it asks."""
        return CrossEntropyLoss(), None


def _with_digests(network: dict[str, Any]) -> dict[str, Any]:
    """Return a network's node with the digest of each file of weights in place of its name."""
    if DIGEST in network:
        unset = {option for option in START if network.get(option) is None}  # as in earlier versions
        network = {k: v for k, v in network.items() if k not in unset | {"checkpoint"}}
    digests: dict[str, Any] = {k: _with_digests(v) for k, v in network.items() if isinstance(v, dict)}
    if network.get("weights") is not None:
        digests["weights"] = hashlib.sha256(Path(network["weights"]).read_bytes()).hexdigest()
    return network | digests


@dataclass(frozen=True)
class PretrainedNetwork:
    """A network of a recipe, with its weights: its checkpoint, its results and its cache key."""

    network: nn.Module
    checkpoint: Path
    fitted: Fitted
    key: str


def find(recipe: Recipe, data: ArrayDataModule, cache: Path) -> PretrainedNetwork | None:
    """Return the network of a recipe from the cache; ``None`` if it is not there or cannot be used."""
    folder = cache / recipe.key(data)
    with suppress(InputError):
        return _read(recipe, data, folder) if folder.is_dir() else None
    return None


def _read(recipe: Recipe, data: ArrayDataModule, folder: Path) -> PretrainedNetwork:
    """Read a network from its folder.

    Raises:
        InputError: the folder is damaged or of another version, or its weights do not fit the network.
    """
    try:
        fitted = Fitted.from_plain(json.loads((folder / FIGURES).read_bytes()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{FIGURES} is damaged or of another version") from error
    network = recipe.build(data, checkpoint=str(folder / LAST))
    mark_used(folder)
    return PretrainedNetwork(network, folder / LAST, fitted, folder.name)


def get_or_train(recipe: Recipe, data: ArrayDataModule, cache: Path) -> PretrainedNetwork:
    """Return the network of a recipe from the cache; train it if it is not there.

    The first rank trains on one device under a lock, so that parallel jobs of a sweep share the result; other ranks
    wait for the result without the lock.

    Args:
        recipe: settings of the training.
        data: prepared data.
        cache: folder with a subfolder for each recipe.
    """
    network = find(recipe, data, cache)
    if network:
        print_rank_zero(f"{recipe.role}: already trained, reused from {network.checkpoint.parent}")
        return network
    if process_rank() > 0:
        return _wait(recipe, data, cache)
    folder = cache / recipe.key(data)
    with locked(folder):
        if folder.exists():
            try:
                return _read(recipe, data, folder)
            except InputError as error:
                recipe.build(data)  # raises if the network is at fault, not the entry
                set_aside(folder, str(error))
        partial = folder.with_name(f"{folder.name}.partial")
        fitted = _train(recipe, partial)  # resumes an interrupted training
        if not (partial / LAST).is_file():
            raise RuntimeError(f"{recipe.role}: training wrote no checkpoint to {partial}")
        about = {"role": recipe.role, "network": name_of(recipe.named), "data": data.name}
        write_json(partial / "about.json", about | {"epochs": recipe.trainer.max_epochs})  # for the command ``cache``
        write_json(partial / FIGURES, dataclasses.asdict(fitted))
        os.replace(partial, folder)
        return _read(recipe, data, folder)


def _wait(recipe: Recipe, data: ArrayDataModule, cache: Path) -> PretrainedNetwork:
    start, reported = time.monotonic(), False
    while (network := find(recipe, data, cache)) is None:
        if not reported and time.monotonic() - start > 60:
            where = printable(str(cache))
            print(f"rank {process_rank()}: waits until rank 0 has trained the {recipe.role} in {where}", flush=True)
            reported = True
        time.sleep(0.5)
    return network


def _train(recipe: Recipe, folder: Path) -> Fitted:
    data: ArrayDataModule = instantiate(recipe.dataset, seed=recipe.seed)
    network, task = recipe.build(data, seed=recipe.seed), recipe.task(data)
    device = device_type(recipe.trainer)
    precision = resolve_precision(recipe.trainer.precision, network, device)
    steps = count_steps(recipe.trainer, len(data.train_dataloader()))
    images = steps * data.batch_size
    work = 3 * flops(network, data.image_size, len(data.mean)) * images
    compile = resolve_compile(recipe.compile, device=device, flops=work, steps=steps)
    loss, teacher = recipe.objective()
    if teacher is not None:
        teacher.compiles = compile
    module = DistillationModule(
        network,
        loss,
        teacher,
        optimizer=optimizer_factory(recipe.optimizer),
        schedule=instantiate(recipe.scheduler),
        compile=compile,
        task=task,
    )
    print_rank_zero(announcement(recipe.role, recipe.named, data, recipe.trainer, precision=precision, compile=compile))
    config = redacted({"student": plain(recipe.network), "dataset": plain(recipe.dataset)})
    origin = StudentProvenance(config, DataDescription.of(data), input_facts(network, data))
    checkpoints = Checkpoints(folder, select=data.has_validation, score=task.score)
    callbacks = [Throughput(), ProgressBar(), Provenance(origin), Seeding(recipe.seed), checkpoints]
    # One device and no process group, even in a distributed job.
    trainer = instantiate(
        recipe.trainer,
        devices=first_device(recipe.trainer.devices),
        num_nodes=1,
        strategy="auto",
        precision=precision,
        plugins=[LightningEnvironment()],
        callbacks=with_bar(recipe.trainer, callbacks),
        logger=MetricsFile(folder),
        default_root_dir=str(folder),
    )
    checkpoint = newest_whole(folder)
    if checkpoint and not _continues(checkpoint, module, checkpoints):
        set_aside(folder, "the interrupted training of another network or version")
        checkpoint = None
    if checkpoint:
        print_rank_zero(f"{recipe.role}: resumed from {checkpoint}")
    return fit_and_test(module, data, trainer, checkpoint)


def _continues(checkpoint: Path, module: DistillationModule, checkpoints: Checkpoints) -> bool:
    """Return whether the training of a module can continue from a checkpoint."""
    try:
        content = read_checkpoint(checkpoint)
        shapes = {k: v.shape for k, v in content["state_dict"].items()}
        fields = content["callbacks"][checkpoints.state_key].keys()
    except (InputError, LookupError, TypeError, AttributeError):
        return False
    same_network = shapes == {k: v.shape for k, v in module.state_dict().items()}
    known = checkpoints.state_dict().keys()
    return same_network and known - NEWER_FIELDS <= fields <= known


def plain(config: DictConfig) -> Any:
    """Return a node as plain containers with all interpolations resolved."""
    return OmegaConf.to_container(config, resolve=True)


def announcement(
    role: str, network: DictConfig, data: ArrayDataModule, trainer: DictConfig, *, precision: str, compile: bool
) -> str:
    """Return the line that is printed when a training starts."""
    mode = f"{precision}, compiled" if compile else precision
    return f"{role}: training {name_of(network)} on {data.name} for {trainer.max_epochs} epochs ({mode})"
