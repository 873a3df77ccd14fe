"""Data for a run that another person may have made; nothing is downloaded unless the user names the folder."""

from pathlib import Path
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from stkd_lightning.data.datasets.archive_module import OfficialDataModule
from stkd_lightning.data.datasets.image_folder import ImageFolderDataModule
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError


def load_local_data(
    dataset: dict[str, Any],
    path: Path,
    *,
    trust: bool,
    cache_dir: str | None,
    data_dir: str | None = None,
    download: bool = False,
    batch_size: int | None = None,
    evaluation_batch_size: int | None = None,
) -> ArrayDataModule:
    """Build a run's data module from local data.

    Args:
        dataset: node with ``_target_`` from the run's configuration.
        path: file that contains the configuration, for the error message.
        trust: also build classes that are not part of this project.
        cache_dir: folder for prepared data.
        data_dir: folder of the data; ``None``: the folder in the run's configuration.
        download: whether missing data may be downloaded.
        batch_size: ``None``: the run's.
        evaluation_batch_size: ``None``: the run's.

    Raises:
        InputError: a class is not trusted.
    """
    if not trust:
        check_trusted({"dataset": dataset}, path)
    options: dict[str, Any] = {"cache_dir": cache_dir}
    cls = get_object(dataset["_target_"])
    if isinstance(cls, type) and issubclass(cls, OfficialDataModule):  # also if the configuration does not say it
        options["download"] = download
    if isinstance(cls, type) and issubclass(cls, ImageFolderDataModule) and "storage" not in dataset:
        options["storage"] = "prepared"  # as all earlier versions did
    if dataset.get("unlabeled_ratio"):
        options["unlabeled_ratio"] = 0.0  # nothing is trained
    unlabelled = dataset.get("unlabeled_dir")
    if unlabelled is not None and not Path(unlabelled).expanduser().is_dir():
        print_rank_zero(f"dataset.unlabeled_dir={unlabelled}: no such folder; the run's unlabelled images are left out")
        options["unlabeled_dir"] = None
    sizes = {"batch_size": batch_size, "evaluation_batch_size": evaluation_batch_size}
    options |= {name: size for name, size in sizes.items() if size is not None}
    options |= {k: None for k in ("url", "md5") if k in dataset}  # an untrusted file must not choose a download
    options |= {"data_dir": data_dir} if data_dir is not None else {}
    return instantiate(OmegaConf.merge(OmegaConf.create(dataset), options))


def check_classes(data: ArrayDataModule, class_names: tuple[str, ...], path: Path) -> None:
    """Refuse data of other classes than those of a student.

    Args:
        data: of an evaluation.
        class_names: of the student.
        path: of its checkpoint.

    Raises:
        InputError: names the differing classes.
    """
    if data.num_classes != len(class_names):
        raise InputError(
            f"checkpoint {path}: trained on {len(class_names)} classes, but {data.name} has {data.num_classes}"
        )
    if data.class_names != class_names:
        differing = sorted(set(data.class_names) ^ set(class_names))
        difference = ", ".join(differing[:5]) or "in another order"
        raise InputError(f"checkpoint {path}: trained on other classes: {difference}")
