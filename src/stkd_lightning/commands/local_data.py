"""Local data for a run that another person may have made; nothing is downloaded."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.trust import check_trusted


def load_local_data(
    dataset: dict[str, Any], path: Path, *, trust: bool, cache_dir: str | None, data_dir: str | None = None
) -> ArrayDataModule:
    """Build a run's data module from local data.

    Args:
        dataset: node with ``_target_`` from the run's configuration.
        path: file that contains the configuration, for the error message.
        trust: also build classes that are not part of this project.
        cache_dir: folder for prepared data.
        data_dir: folder of the data; ``None``: the folder in the run's configuration.

    Raises:
        InputError: a class is not trusted.
    """
    if not trust:
        check_trusted({"dataset": dataset}, path)
    options: dict[str, Any] = {"cache_dir": cache_dir}
    options |= {"download": False} if "download" in dataset else {}
    options |= {k: None for k in ("url", "md5") if k in dataset}  # an untrusted file must not choose a download
    options |= {"data_dir": data_dir} if data_dir is not None else {}
    return instantiate(OmegaConf.merge(OmegaConf.create(dataset), options))
