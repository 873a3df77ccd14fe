"""Measuring a student from its checkpoint alone."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.callbacks import ProgressBar
from stkd_lightning.callbacks.provenance import KEY
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.errors import InputError, unknown
from stkd_lightning.files import write_json
from stkd_lightning.losses.cross_entropy import CrossEntropyLoss
from stkd_lightning.module import DistillationModule
from stkd_lightning.reporting.console import say
from stkd_lightning.runs.fit import quiet
from stkd_lightning.runs.networks import build_network
from stkd_lightning.weights import read_checkpoint

REUSING = "stkd_lightning.models.reuse_classifier"  # the one network that is made of others
# What a checkpoint's configuration may build: a file from others must not choose what code runs.
TRUSTED = (
    "stkd_lightning.models.create_model",
    REUSING,
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
    facts: Any = read_checkpoint(path).get(KEY)
    try:
        config_facts = dict(facts["config"])
        student = config_facts.get("distilled") or config_facts["student"]
        parts = {"student": dict(student), "dataset": dict(config_facts["dataset"])}
        class_names = [str(name) for name in facts["data"]["class_names"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"checkpoint {path}: does not say, as this project's do, what network and data it is of"
        ) from error
    if not config.trust:
        _check_trusted(parts, path)
    saved = OmegaConf.create(parts)
    here = {"cache_dir": config.cache_dir, "batch_size": config.batch_size}
    here |= {"data_dir": config.data_dir} if config.data_dir is not None else {}
    # Where a stranger's checkpoint would have the data downloaded from is not for it to say.
    official = {k: None for k in ("url", "md5") if k in saved.dataset}
    dataset = OmegaConf.merge(saved.dataset, here, official)
    data: ArrayDataModule = instantiate(dataset)
    _check_classes(data, class_names, path)
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


def _check_trusted(parts: dict[str, Any], path: Path) -> None:
    """Refuse what could run other code than this project's: foreign classes, references, and words for libraries.

    Raises:
        InputError: names what was found.
    """
    known = {"_target_", "name", "resident", "weights", "data_dir", "cache_dir", "url", "md5", "train_folder",
             "val_folder", "test_folder", "sampler"}  # fmt: skip
    nodes = list(parts.values())
    for part in nodes:
        if part.get("_target_") not in TRUSTED:
            raise InputError(
                f"checkpoint {path}: wants to build {part.get('_target_')}, which is not of this project; "
                "trust=true allows it"
            )
        for option, value in part.items():
            if not isinstance(option, str) or (option.startswith("_") and option != "_target_"):
                raise InputError(f"checkpoint {path}: its option {option!r} is not plain; trust=true allows it")
            if isinstance(value, dict) and part["_target_"] == REUSING and option in ("student", "teacher"):
                nodes.append(value)
                continue
            word = option in known and isinstance(value, str) and "${" not in value
            fetched = option == "name" and ":" in str(value)  # timm's way to name a network on a hub
            if fetched or not (word or isinstance(value, int | float | None)):
                raise InputError(f"checkpoint {path}: its option {option}={value!r} is not plain; trust=true allows it")


def _check_classes(data: ArrayDataModule, class_names: list[str], path: Path) -> None:
    if data.num_classes != len(class_names):
        raise InputError(f"checkpoint {path}: made for {len(class_names)} classes, {data.name} has {data.num_classes}")
    if list(data.class_names) != class_names:
        odd = sorted(set(data.class_names) ^ set(class_names))
        raise InputError(f"checkpoint {path}: trained on other classes: {', '.join(odd[:5]) or 'in another order'}")
