"""The data of a run's other trainings: those of the run, with some options changed."""

from typing import cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.utilities.errors import InputError, unknown


def without_sampler(settings: DictConfig) -> DictConfig:
    """Return the data's node for a training without the run's loss, for which the sampler is."""
    options = cast(dict[str, object], OmegaConf.to_container(settings.dataset, resolve=True))
    return OmegaConf.create({k: v for k, v in options.items() if k not in ("sampler", "sampler_groups")})


def other_data(name: str, dataset: DictConfig, changes: DictConfig | None) -> DictConfig:
    """Return the node of the data with some options changed.

    Args:
        name: of the setting that holds the changes, for the message.
        dataset: node with ``_target_``.
        changes: options and their values; ``None``: nothing changes.

    Raises:
        InputError: an option that the data do not have.
    """
    for option in map(str, changes or ()):
        if option not in dataset:
            raise unknown(f"option of {name}", option, map(str, dataset))
    return cast(DictConfig, OmegaConf.merge(dataset, changes or {}))


def data_like(data: ArrayDataModule, node: DictConfig, name: str) -> ArrayDataModule:
    """Build and prepare data with the classes of others.

    Raises:
        InputError: the classes differ.
    """
    other: ArrayDataModule = instantiate(node)
    other.prepare_data()
    if other.class_names != data.class_names:
        raise InputError(f"{name}: these data have other classes than {data.name}")
    return other
