"""Ranks that share a batch: what is refused, set and announced before they train."""

from typing import Any

import lightning as L
import pytest
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import OmegaConf

from stkd_lightning.commands.training.ranks import SENDS_BUFFERS, announce_small_batches, keep_own_buffers
from stkd_lightning.commands.training.trial import try_settings
from stkd_lightning.models import create_model
from stkd_lightning.utilities.errors import InputError
from tests.commands.training.test_trial import settings

ON_CPUS = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


@pytest.mark.parametrize("overrides", [ON_CPUS, ["trainer=cpu", "trainer.devices=2", "trainer.strategy=ddp"]])
def test_synchronized_batch_norm_is_refused_on_cpus(overrides: list[str]) -> None:
    with pytest.raises(
        InputError, match=r"^trainer.sync_batchnorm=true: torch has no synchronized BatchNorm on CPUs; leave it"
    ):
        try_settings(settings(*overrides, "+trainer.sync_batchnorm=true"))


def test_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^dataset.batch_size=33: must be a multiple of the 2 ranks; the nearest is 32$"
    ):
        try_settings(settings(*ON_CPUS, "dataset.batch_size=33"))


@pytest.mark.parametrize("strategy", ["ddp", "auto", "ddp_find_unused_parameters_true", DDPStrategy()])
def test_ranks_keep_their_buffers(strategy: Any) -> None:
    """Also with a strategy from the command line, or where Lightning chooses it."""
    trainer = L.Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False, enable_checkpointing=False)
    keep_own_buffers(trainer)
    assert isinstance(trainer.strategy, DDPStrategy)
    assert [v for k, v in trainer.strategy._ddp_kwargs.items() if k in SENDS_BUFFERS] == [False]


def test_own_option_of_the_strategy_wins() -> None:
    strategy = DDPStrategy(broadcast_buffers=True)
    keep_own_buffers(L.Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False))
    assert [v for k, v in strategy._ddp_kwargs.items() if k in SENDS_BUFFERS] == [True]


@pytest.mark.parametrize(
    ("batch_size", "ranks", "student", "options", "line"),
    [
        (64, 2, "resnet8", {}, "each of the 2 ranks has 32 images of a batch, so the statistics of BatchNorm are "
         "noisy; dataset.batch_size=128 with optimizer.lr scaled by 2 avoids it"),
        (192, 4, "resnet8", {}, "dataset.batch_size=256 with optimizer.lr scaled by 1.33 avoids it"),
        (128, 2, "resnet8", {}, ""),
        (64, 2, "resnet8", {"sync_batchnorm": True}, ""),
        (32, 1, "resnet8", {}, ""),
    ],
)  # fmt: skip
def test_few_images_of_a_rank_are_announced(
    batch_size: int, ranks: int, student: str, options: Any, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = OmegaConf.create({"dataset": {"batch_size": batch_size}, "trainer": options})
    announce_small_batches(create_model(student, num_classes=10), config, ranks)
    printed = capsys.readouterr().out
    assert line in printed.replace("\n", " ")
    assert bool(line) == bool(printed)
