"""Runs of earlier versions: continued where the code still trains the same, else refused in one line."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from stkd_lightning.commands.config.credentials import public
from stkd_lightning.commands.training.resume import find_earlier
from stkd_lightning.data.description import DataDescription
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.models.checkpoint_file import KEY, write_sealed
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import conf_dir

DATA = DataDescription("digits", 10, ("0",) * 10, "0" * 16, (0.5,), (0.5,), 8)
NEW = ("keep", "forwards", "partner", "dominant", "weights")  # of mixup


def interrupted(folder: Path, *overrides: str, older: bool) -> Any:
    """Write a checkpoint of a run, by this version or an earlier one, and return the run's settings."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        words = ["experiment=quickstart", f"run_dir={folder}", "method=kd", "precision=32-true", "compile=false"]
        settings = compose("train", [*words, *overrides])
    settings.num_classes, settings.num_samples = 10, 100
    OmegaConf.resolve(settings)
    config = public(settings)
    if older:
        for option in NEW:
            config["mixup"].pop(option, None)
        for loss in (config["loss"], *config["loss"].get("losses", {}).values()):
            loss.pop("relu", None)
    origin = StudentProvenance(config, DATA, {})
    (folder / "checkpoints").mkdir()
    write_sealed({"state_dict": {}, KEY: origin.to_plain()}, folder / "checkpoints" / "last.ckpt")
    return settings


@pytest.mark.parametrize("loss", ["reviewkd", "simkd", "fitnet"])
def test_a_loss_that_changed_is_not_continued(loss: str, tmp_path: Path) -> None:
    settings = interrupted(tmp_path, f"loss={loss}", older=True)
    with pytest.raises(InputError, match=r"last.ckpt is of an earlier version, whose \w+Loss is computed otherwise"):
        find_earlier(settings)


@pytest.mark.parametrize(
    ("overrides", "older"),
    [
        (["loss=stkd"], True),
        (["loss=reviewkd"], False),
        (["loss=reviewkd", "mixup=cutmix"], False),
        (["loss=reviewkd", "mixup=strong_view"], False),
    ],
)
def test_other_runs_are_continued(overrides: list[str], older: bool, tmp_path: Path) -> None:
    settings = interrupted(tmp_path, *overrides, older=older)
    assert find_earlier(settings) is not None
