"""Which kernels torch may choose, as far as the CPU shows it: the settings of torch."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from stkd_lightning.commands import train
from stkd_lightning.reporting.run_options import result_options
from stkd_lightning.utilities.paths import conf_dir

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(WORKSPACE, raising=False)
    yield
    os.environ.pop(WORKSPACE, None)
    torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(False)


class TrainedError(Exception):
    pass


def chosen(*overrides: str, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, bool, bool, bool]:
    """Return torch's settings when the first network of a run would train."""

    def try_settings(settings: Any) -> int:
        instantiate(settings.trainer, logger=False, precision="32-true")
        raise TrainedError

    monkeypatch.setattr(train, "try_settings", try_settings)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        settings = compose("train", ["experiment=quickstart", "run_dir=run", "method=stkd", "trainer=cpu", *overrides])
    with pytest.raises(TrainedError):
        train._train(settings)
    cudnn = torch.backends.cudnn
    strict = torch.are_deterministic_algorithms_enabled()
    return cudnn.deterministic, cudnn.benchmark, strict, WORKSPACE in os.environ


@pytest.mark.parametrize(
    ("overrides", "settings"),
    [
        ([], (True, False, False, False)),
        (["deterministic=true"], (True, False, True, True)),
        (["deterministic=false"], (False, True, False, False)),
        (["+trainer.deterministic=true"], (True, False, True, True)),
        (["+trainer.deterministic=false"], (True, False, False, False)),
        (["+trainer.benchmark=true"], (True, True, False, False)),
    ],
)
def test_determinism_is_set_before_anything_trains(
    overrides: list[str], settings: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen(*overrides, monkeypatch=monkeypatch) == settings


def test_determinism_of_one_job_does_not_reach_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("true", "false"):
        chosen(f"deterministic={setting}", monkeypatch=monkeypatch)
        assert chosen(monkeypatch=monkeypatch)[:3] == (True, False, False)


def test_runs_of_earlier_versions_resume_with_the_default() -> None:
    older: dict[str, Any] = {"seed": 0}
    assert result_options(older | {"deterministic": "auto"}) == result_options(older)
    assert result_options(older | {"deterministic": True}) != result_options(older)
