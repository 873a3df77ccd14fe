"""The folder of a run's stored teacher logits, under a key of everything that determines them."""

import math
import shutil
from pathlib import Path

import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import DictConfig

from stkd_lightning.commands.training.pretrain import plain
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.reporting.run_options import LATER_OPTIONS, data_options
from stkd_lightning.teacher.frozen import FrozenTeacher
from stkd_lightning.utilities.batch_rows import batch_rows
from stkd_lightning.utilities.cache import mark_used
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import cache_root, key_of

FORMAT = 1  # raised when a change of the code changes the samples of the same settings, or how logits are stored


def bytes_needed(config: DictConfig, data: ArrayDataModule, batches: int, dtype: str) -> int:
    """Return the size in bytes of a whole run's logits.

    Raises:
        InputError: the size is above ``teacher.replay_limit``.
    """
    size = 2 if "16" in dtype else 4
    shape = data.task.logits_shape(data.num_classes, data.input_shape)
    images = batch_rows(config.dataset.batch_size, config.dataset.get("unlabeled_ratio"))
    rows = instantiate(config.mixup).rows(images)
    total = batches * rows * math.prod(shape) * size
    if total > config.teacher.replay_limit * 2**30:
        raise InputError(
            f"teacher.replay=true: this run's logits take {_gib(total)}, more than "
            f"teacher.replay_limit={config.teacher.replay_limit}; raise it, or set teacher.replay=false"
        )
    return total


def replay_folder(
    config: DictConfig, data: ArrayDataModule, teacher: FrozenTeacher, *, ranks: int, batches: int
) -> Path:
    """Create the folder of a run's stored teacher logits, if there is enough space.

    Args:
        config: settings with the run's final precision.
        data: prepared data.
        teacher: the teacher, whose weights are part of the key.
        ranks: number of ranks that share a batch.
        batches: number of batches of the whole run.

    Raises:
        InputError: the logits need more space than ``teacher.replay_limit`` or the disk leaves.
    """
    root = cache_root(config.cache_dir) / "replay"
    dataset = data_options(plain(config.dataset)) | {"seed": config.dataset.seed}
    dtype = str(teacher.dtype or config.trainer.precision)
    ahead = [config.teacher.look_ahead] if config.teacher.look_ahead > 1 else []  # other batches round differently
    mixup = {k: v for k, v in plain(config.mixup).items() if LATER_OPTIONS.get(f"mixup.{k}", math.nan) != v}
    options, others = config.dataset, list[object](ahead)
    if options.get("evaluation_batch_size"):  # passes are read batch by batch
        others.append({"evaluation_batch_size": options.evaluation_batch_size})
    if options.get("augment") or options.get("evaluation_resize") or options.get("storage") == "streamed":
        others.append([torch.__version__, torchvision.__version__])  # they make the samples
    key = key_of([FORMAT, teacher.digest, data.arrays.digest, dataset, mixup, dtype, ranks, *others])
    needed = bytes_needed(config, data, batches, dtype)
    missing = needed - _size(root / key)
    free = shutil.disk_usage(_existing(root)).free
    limit = config.teacher.replay_limit * 2**30 - _size(root)
    if missing > min(free, limit):
        cause = (
            f"may grow by {_gib(limit)} (teacher.replay_limit)" if limit < free else f"has {_gib(free)} of disk space"
        )
        raise InputError(f"teacher.replay=true: needs {_gib(missing)}, but {root} {cause}; delete old folders there")
    exists = (root / key).is_dir()
    way = f"read from {root / key}" if exists else f"written to {root / key}, {_gib(needed)} in all"
    print_rank_zero(f"teacher: logits are {way}")
    try:
        (root / key).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"teacher.replay=true: {root} cannot be written ({error.strerror}); set cache_dir=FOLDER"
        ) from None
    mark_used(root / key)
    return root / key


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _gib(size: float) -> str:
    return f"{max(size, 0) / 2**30:.2f} GiB"
