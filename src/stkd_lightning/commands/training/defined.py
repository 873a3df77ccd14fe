"""The combinations of a sweep for which a method is not defined."""

from collections.abc import Callable, Iterable

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.config.compose import with_values
from stkd_lightning.commands.training.ensemble import complete_teacher
from stkd_lightning.commands.training.loss_checks import check_classes, check_labels, check_loss, try_features
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.models.build import build_network
from stkd_lightning.utilities.errors import InputError, UndefinedError

OTHERS = ("hydra", "mixup", "seed", "method", "run_dir")  # do not decide whether a loss fits data and networks


def obstacles(jobs: Iterable[DictConfig]) -> list[UndefinedError | None]:
    """Return for each job of a sweep the reason why its method is not defined, or ``None``.

    The data are prepared, and networks are built, but not trained. Other mistakes are left to the job.

    Args:
        jobs: composed configurations, with the group ``hydra``.
    """
    known: dict[str, UndefinedError | None] = {}
    found = []
    for job in jobs:
        settings = with_values(job, {"method": job.hydra.runtime.choices.loss})
        obstacle = _obstacle_of(check_loss, settings)
        if obstacle is None:
            key = OmegaConf.to_yaml(
                OmegaConf.masked_copy(settings, [str(name) for name in settings if name not in OTHERS])
            )
            if key not in known:
                known[key] = _obstacle_of(_check_fit, settings)
            obstacle = known[key]
        found.append(obstacle)
    return found


def _obstacle_of(check: Callable[[DictConfig], None], settings: DictConfig) -> UndefinedError | None:
    try:
        check(settings)
    except UndefinedError as error:
        return error
    except InputError:
        pass
    return None


def _check_fit(settings: DictConfig) -> None:
    """Refuse a loss that fits neither the labels of the data nor the networks."""
    data: ArrayDataModule = instantiate(settings.dataset)
    data.prepare_data()
    counts = {"num_classes": data.num_classes, "num_samples": data.arrays.splits["train"].samples}
    settings = with_values(settings, counts)
    loss = instantiate(settings.loss)
    check_classes(loss, data, settings.method)
    check_labels(loss, data.task)
    if getattr(loss, "reads_features", False):
        settings = complete_teacher(settings)
        student = build_network(settings.distilled or settings.student, data, seed=settings.seed)
        try_features(loss, student, settings.teacher.network, data, seed=settings.seed)
