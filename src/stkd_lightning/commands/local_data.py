"""The data of a run that somebody may have made elsewhere: those that are here, and nothing is downloaded."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.trust import check_trusted


def data_here(
    dataset: dict[str, Any], path: Path, *, trust: bool, cache_dir: str | None, data_dir: str | None = None
) -> ArrayDataModule:
    """Build a run's data module so that it takes what is here.

    Args:
        dataset: node with ``_target_``, as the run's configuration has it.
        path: of the file that says so.
        trust: build classes that are not this project's.
        cache_dir: for prepared data.
        data_dir: where the data lie, if not where the run says.

    Raises:
        InputError: classes that are not trusted.
    """
    if not trust:
        check_trusted({"dataset": dataset}, path)
    here: dict[str, Any] = {"cache_dir": cache_dir}
    here |= {"download": False} if "download" in dataset else {}
    here |= {k: None for k in ("url", "md5") if k in dataset}  # not for a stranger's file to say
    here |= {"data_dir": data_dir} if data_dir is not None else {}
    return instantiate(OmegaConf.merge(OmegaConf.create(dataset), here))
