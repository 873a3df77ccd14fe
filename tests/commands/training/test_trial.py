"""What the libraries refuse is one line before anything is trained."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.training.fit import quiet
from stkd_lightning.commands.training.optimizer import optimizer_factory
from stkd_lightning.commands.training.trial import try_settings
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import conf_dir

EARLY = "+callbacks.stop._target_=lightning.pytorch.callbacks.EarlyStopping"


def settings(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", ["experiment=quickstart", "logger=csv", "run_dir=run", "method=stkd", *overrides])


@pytest.mark.parametrize(
    "overrides",
    [
        ["precision=bf16-mixed", "trainer.gradient_clip_val=1.0", "trainer.accumulate_grad_batches=2"],
        ["precision=16-mixed", "trainer.gradient_clip_val=1.0", "+trainer.gradient_clip_algorithm=value"],
        ["precision=bf16-true", "callbacks=ema", "optimizer=adamw", "+optimizer.foreach=true"],
        ["optimizer._target_=torch.optim.RMSprop", "~optimizer.nesterov"],
        ["trainer.limit_val_batches=0", "+trainer.profiler=simple", "+trainer.val_check_interval=5"],
        [EARLY, "+callbacks.stop.monitor=train/similarity"],
        [EARLY, "+callbacks.stop.monitor=val/pixel_accuracy", "dataset._target_=tests.tasks.pixels.PixelsDataModule"],
        ["+callbacks.own._target_=lightning.pytorch.callbacks.ModelCheckpoint", "+callbacks.own.dirpath=own"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_try_settings_leaves_no_trace(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quiet()
    state = torch.get_rng_state()
    assert try_settings(settings(*overrides)) == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(tmp_path.iterdir())
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([EARLY, "+callbacks.stop.monitor=val/accurcy"], "metric `val/accurcy` which is not available"),
        (["+trainer.gradient_clip_algorithm=norms"], "`gradient_clip_algorithm` norms is invalid"),
        (["~logger.csv"], "Cannot use `LearningRateMonitor` callback with `Trainer` that has no logger"),
        (["callbacks=ema", "callbacks.ema.decay=2"], "callbacks.ema.decay=2: must be in [0, 1]"),
        (["optimizer.momentum=-1"], "optimizer: ValueError: Invalid momentum value: -1"),
        (["optimizer._target_=torch.optim.Rprop"], "optimizer: TypeError: "),
        (["teacher.optimizer={_target_:torch.optim.SGD,lr:-1,_partial_:true}"], "teacher.optimizer: ValueError: "),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_try_settings_refuses(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        try_settings(settings(*overrides))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("node", "device", "expected"),
    [
        ({"_target_": "torch.optim.SGD", "fused": True}, "cpu", True),
        ({"_target_": "torch.optim.SGD", "fused": False}, "cpu", False),
        ({"_target_": "torch.optim.SGD", "fused": True, "foreach": True}, "cpu", None),
        ({"_target_": "torch.optim.RMSprop", "fused": True}, "cpu", None),
        ({"_target_": "torch.optim.AdamW", "fused": True}, "meta", None),
    ],
)
def test_fused_decides_itself(node: dict[str, object], device: str, expected: bool | None) -> None:
    factory = optimizer_factory(OmegaConf.create({**node, "_partial_": True, "lr": 0.1}))
    optimizer = factory(iter([torch.nn.Parameter(torch.zeros(1, device=device))]))
    assert optimizer.param_groups[0].get("fused") is expected


def test_an_optimizer_with_another_mistake_names_it() -> None:
    factory = optimizer_factory(
        OmegaConf.create({"_target_": "torch.optim.SGD", "fused": True, "_partial_": True, "lrr": 1})
    )
    with pytest.raises(TypeError, match="lrr"):
        factory([torch.nn.Parameter(torch.zeros(1))])
