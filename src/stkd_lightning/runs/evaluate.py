"""Measuring a student from its checkpoint alone."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.callbacks import ProgressBar
from stkd_lightning.callbacks.provenance import KEY
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.errors import InputError, unknown
from stkd_lightning.losses.cross_entropy import CrossEntropyLoss
from stkd_lightning.module import DistillationModule
from stkd_lightning.reporting.console import say
from stkd_lightning.reporting.summary import write_json
from stkd_lightning.runs.fit import quiet
from stkd_lightning.runs.networks import build_network
from stkd_lightning.weights import read_checkpoint

# What a checkpoint's configuration may build: a file from others must not choose what code runs.
TRUSTED = (
    "stkd_lightning.models.create_model",
    "stkd_lightning.models.timm_model",
    "stkd_lightning.models.torchvision_model",
    "stkd_lightning.data.CIFAR10DataModule",
    "stkd_lightning.data.CIFAR100DataModule",
    "stkd_lightning.data.CINIC10DataModule",
    "stkd_lightning.data.TinyImageNetDataModule",
    "stkd_lightning.data.ImageFolderDataModule",
    "stkd_lightning.data.DigitsDataModule",
)


def evaluate(config: DictConfig) -> float:
    """Run a composed ``evaluate.yaml``: print the figures of a student, and write them where asked.

    Args:
        config: resolved by Hydra.

    Returns:
        Top-1 accuracy in [0, 1].

    Raises:
        InputError: a checkpoint that is not this project's or holds foreign classes, or data that do not fit it.
    """
    quiet()
    if config.split not in ("test", "val"):
        raise unknown("split", str(config.split), ["test", "val"])
    path = checkpoint_file(Path(config.checkpoint))
    facts = read_checkpoint(path).get(KEY)
    if facts is None:
        raise InputError(f"checkpoint {path}: not one of this project, it does not say what network and data it is of")
    saved = OmegaConf.create(facts["config"])
    _check_targets(saved, path, trust=config.trust)
    here = {"cache_dir": config.cache_dir, "batch_size": config.batch_size}
    here |= {"data_dir": config.data_dir} if config.data_dir is not None else {}
    # Where a stranger's checkpoint would have the data downloaded from is not for it to say.
    official = {k: None for k in ("url", "md5") if k in saved.dataset}
    dataset = OmegaConf.merge(saved.dataset, here, official)
    data: ArrayDataModule = instantiate(dataset)
    _check_classes(data, facts["data"], path)
    student = build_network(saved.student, data, checkpoint=str(path))
    module = DistillationModule(student, CrossEntropyLoss())
    trainer = instantiate(config.trainer, callbacks=[ProgressBar()], logger=False, enable_checkpointing=False)
    loader = data.test_dataloader() if config.split == "test" else data.val_dataloader()
    if not loader:
        raise InputError(f"split=val: {data.name} has no validation images (dataset.validation_fraction=0)")
    figures = {k.removeprefix("test/"): v for k, v in trainer.test(module, loader, verbose=False)[0].items()}
    for name, value in figures.items():
        say(f"{config.split}/{name}: {value:.4f}")
    if config.output is not None:
        output = Path(config.output)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(output, {"checkpoint": str(path), "split": config.split, "data": data.name, **figures})
    return float(figures["accuracy"])


def checkpoint_file(path: Path) -> Path:
    """Return a checkpoint itself; of a run's folder its selected, else its last student.

    Raises:
        InputError: neither is there.
    """
    if not path.is_dir():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        for folder in (path / "checkpoints", path):
            if (folder / name).is_file():
                return folder / name
    raise InputError(f"checkpoint {path}: a folder without checkpoints/best.ckpt or last.ckpt")


def _targets(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [t for child in node.values() for t in _targets(child)]
    return [t for child in node for t in _targets(child)] if isinstance(node, list) else []


def _check_targets(saved: DictConfig, path: Path, *, trust: bool) -> None:
    plain = OmegaConf.to_container(saved, resolve=False)
    parts = [plain.get(name, {}) for name in ("student", "dataset")] if isinstance(plain, dict) else []
    foreign = [t for t in _targets(parts) if t not in TRUSTED]
    if foreign and not trust:
        raise InputError(
            f"checkpoint {path}: wants to build {foreign[0]}, which is not of this project; trust=true allows it"
        )


def _check_classes(data: ArrayDataModule, facts: dict[str, Any], path: Path) -> None:
    if data.num_classes != facts["num_classes"]:
        raise InputError(
            f"checkpoint {path}: made for {facts['num_classes']} classes, {data.name} has {data.num_classes}"
        )
    if list(data.class_names) != list(facts["class_names"]):
        odd = sorted(set(data.class_names) ^ set(facts["class_names"]))
        raise InputError(f"checkpoint {path}: trained on other classes: {', '.join(odd[:5]) or 'in another order'}")
