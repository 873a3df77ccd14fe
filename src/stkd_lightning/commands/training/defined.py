"""The combinations of a sweep for which a method is not defined."""

from collections.abc import Iterable

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.config.compose import with_values
from stkd_lightning.commands.training.ensemble import complete_teacher
from stkd_lightning.commands.training.loss_checks import (
    check_classes,
    check_labels,
    check_loss,
    check_mixing,
    try_features,
)
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.models.build import build_network
from stkd_lightning.utilities.errors import UndefinedError, undefined

OTHERS = ("hydra", "mixup", "seed", "method", "run_dir")  # do not decide whether a loss fits data and networks
Fit = tuple[ArrayDataModule | None, UndefinedError | None]


def obstacles(jobs: Iterable[DictConfig], *, prepare: bool = True) -> list[UndefinedError | None]:
    """Return for each job of a sweep the reason why its method is not defined, or ``None``.

    Other mistakes are left to the job.

    Args:
        jobs: composed configurations, with the group ``hydra``.
        prepare: also prepare the data, and build the networks without training them.
    """
    known: dict[str, Fit] = {}
    return [_obstacle(with_values(job, {"method": job.hydra.runtime.choices.loss}), known, prepare) for job in jobs]


def _obstacle(settings: DictConfig, known: dict[str, Fit], prepare: bool) -> UndefinedError | None:
    try:
        check_loss(settings)
        if prepare:
            key = OmegaConf.to_yaml(OmegaConf.masked_copy(settings, [str(k) for k in settings if k not in OTHERS]))
            if key not in known:
                known[key] = _fit(settings)
            data, obstacle = known[key]
            if data is not None:
                check_mixing(settings, data)
            return obstacle
    except Exception as error:  # a mistake of another kind, which the job finds, too
        return undefined(error)
    return None


def _fit(settings: DictConfig) -> Fit:
    """Return the data, if they are there, and why the loss fits neither their labels nor the networks."""
    data: ArrayDataModule | None = None
    try:
        data = instantiate(settings.dataset)
        assert data is not None
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
    except Exception as error:
        return data, undefined(error)
    return data, None
