"""The data of a run's other trainings: those of the run, with some options changed."""

from typing import cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.utilities.errors import InputError, unknown

FOR_THE_LOSS = ("sampler", "sampler_groups", "unlabeled_ratio")
SEEDS = {"teacher.dataset": "teacher.seed"}  # the other trainings of a run have its own seed


def without_sampler(settings: DictConfig) -> DictConfig:
    """Return the data's node for a training without the run's loss, for which sampler and unlabelled images are."""
    options = cast(dict[str, object], OmegaConf.to_container(settings.dataset, resolve=True))
    return OmegaConf.create({k: v for k, v in options.items() if k not in FOR_THE_LOSS})


def other_data(name: str, dataset: DictConfig, changes: DictConfig | None) -> DictConfig:
    """Return the node of the data with some options changed.

    Args:
        name: of the setting that holds the changes, for the message.
        dataset: node with ``_target_``.
        changes: options and their values; ``None``: nothing changes.

    Raises:
        InputError: no options, an option that the data do not have, or a seed, which is that of the trained network.
    """
    if not isinstance(changes, DictConfig | None):
        raise InputError(f"{name}={changes}: must be options of the data and their values, such as {{scale: [0.5,2]}}")
    for option in map(str, changes or ()):
        if option == "seed":
            raise InputError(f"{name}.seed: is that of the trained network; set {SEEDS.get(name, 'seed')}")
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
