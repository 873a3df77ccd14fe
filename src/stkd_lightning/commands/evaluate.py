"""Measuring a student from its checkpoint alone."""

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.callbacks import ProgressBar
from stkd_lightning.commands.training.fit import quiet
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.inference.load import checkpoint_file
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.losses.cross_entropy import CrossEntropyLoss
from stkd_lightning.models.build import build_network
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.files import write_json


def evaluate(config: DictConfig) -> float:
    """Run a composed ``evaluate.yaml``: print the figures of a student, and write them where asked.

    Args:
        config: resolved by Hydra.

    Returns:
        The task's score, for example the accuracy in [0, 1].

    Raises:
        InputError: a checkpoint that is not this project's or holds foreign classes, or data that do not fit it.
    """
    quiet()
    if config.split not in ("test", "val"):
        raise unknown("split", str(config.split), ["test", "val"])
    path = checkpoint_file(Path(config.checkpoint))
    origin = StudentProvenance.from_checkpoint(path)
    parts = {"student": origin.network, "dataset": origin.config["dataset"]}
    if not config.trust:
        check_trusted(parts, path)
    saved = OmegaConf.create(parts)
    here = {"cache_dir": config.cache_dir, "batch_size": config.batch_size}
    here |= {"data_dir": config.data_dir} if config.data_dir is not None else {}
    # Where a stranger's checkpoint would have the data downloaded from is not for it to say.
    official = {k: None for k in ("url", "md5") if k in saved.dataset}
    dataset = OmegaConf.merge(saved.dataset, here, official)
    data: ArrayDataModule = instantiate(dataset)
    _check_classes(data, origin.data.class_names, path)
    student = build_network(saved.student, data, checkpoint=str(path))
    module = DistillationModule(student, CrossEntropyLoss(), task=data.task)
    trainer = instantiate(config.trainer, callbacks=[ProgressBar()], logger=False, enable_checkpointing=False)
    loader = data.test_dataloader() if config.split == "test" else data.val_dataloader()
    if not loader:
        raise InputError(f"split=val: {data.name} has no validation images (dataset.validation_fraction=0)")
    figures = {k.removeprefix("test/"): v for k, v in trainer.test(module, loader, verbose=False)[0].items()}
    for name, value in figures.items():
        print_rank_zero(f"{config.split}/{name}: {value:.4f}")
    if config.output is not None:
        output = Path(config.output)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, {"checkpoint": str(path), "split": config.split, "data": data.name, **figures})
    return float(figures[data.task.score.name])


def _check_classes(data: ArrayDataModule, class_names: tuple[str, ...], path: Path) -> None:
    if data.num_classes != len(class_names):
        raise InputError(f"checkpoint {path}: made for {len(class_names)} classes, {data.name} has {data.num_classes}")
    if data.class_names != class_names:
        odd = sorted(set(data.class_names) ^ set(class_names))
        raise InputError(f"checkpoint {path}: trained on other classes: {', '.join(odd[:5]) or 'in another order'}")
