"""Several ranks that share a batch: what is refused, set and announced before they train."""

from inspect import signature

import lightning as L
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from stkd_lightning.commands.config.checks import check_shared
from stkd_lightning.utilities.batch_rows import batch_rows
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError

SENDS_BUFFERS = ("forward_sync_buffers", "broadcast_buffers")  # the older name warns since torch 2.14
FEW_IMAGES = 64  # of a rank, below which the statistics of BatchNorm are noisy


def check_ranks(trainer: L.Trainer, config: DictConfig) -> None:
    """Refuse a batch that the ranks cannot share, and synchronized BatchNorm on CPUs.

    Raises:
        InputError: the ranks do not divide a batch, or they run on CPUs with ``sync_batchnorm``.
    """
    check_shared(config.dataset, trainer.world_size)
    on_cpus = trainer.strategy.root_device.type == "cpu"
    if config.trainer.get("sync_batchnorm") and on_cpus and isinstance(trainer.strategy, DDPStrategy):
        raise InputError(
            "trainer.sync_batchnorm=true: torch has no synchronized BatchNorm on CPUs; leave it out, or train on GPUs"
        )


def keep_own_buffers(trainer: L.Trainer) -> None:
    """Let each rank keep its BatchNorm statistics while it trains, unless the strategy's options say otherwise.

    By default DDP sends the first rank's buffers at every step. ``DistillationModule`` sends them before an evaluation,
    where they are used.
    """
    if isinstance(trainer.strategy, DDPStrategy):
        options = trainer.strategy._ddp_kwargs
        if not options.keys() & set(SENDS_BUFFERS):
            known = signature(DistributedDataParallel).parameters
            options[next(name for name in SENDS_BUFFERS if name in known)] = False


def announce_small_batches(student: nn.Module, settings: DictConfig, ranks: int) -> None:
    """Print a line if each rank has few images of a batch and the student normalizes over them."""
    images = batch_rows(settings.dataset.batch_size, settings.dataset.get("unlabeled_ratio")) // ranks
    normalizes = any(isinstance(module, _BatchNorm) for module in student.modules())
    if ranks == 1 or images >= FEW_IMAGES or not normalizes or settings.trainer.get("sync_batchnorm"):
        return
    print_rank_zero(
        f"student: each of the {ranks} ranks has {images} images of a batch, so the statistics of BatchNorm are noisy; "
        f"dataset.batch_size={FEW_IMAGES * ranks} with optimizer.lr scaled by {FEW_IMAGES / images:.3g} avoids it"
    )
