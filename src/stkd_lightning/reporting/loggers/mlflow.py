"""MLflow: a store in the launch folder, or a server."""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from stkd_lightning.reporting.loggers.fault_tolerant import SkipsLoggedSteps
from stkd_lightning.reporting.loggers.timeouts import unanswered
from stkd_lightning.utilities.redaction import redacted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STORE = "sqlite:///mlflow.db"  # MLflow's own default, which its commands look for
ID = "stkd_lightning.id"  # the tag by which a run is found again: MLflow names runs itself
SECONDS, TRIES = "8", "1"  # that a server has, and that are made after the first; MLflow's own are minutes


class FaultTolerantMLFlowLogger(SkipsLoggedSteps, MLFlowLogger):
    """Lightning's MLflow logger whose faults end no run and slow none down, and which goes on with a run.

    Args:
        tracking_uri: of a store or a server; ``None``: ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` where the command
            was started.
        id: of the run; that of an earlier one goes on with it.
        group: of runs of one sweep; a tag.
        tags: of the run.
        options: further arguments of ``MLFlowLogger``, for example ``experiment_name``, ``run_name``.
    """

    label = "MLflow"
    gives_up = True  # every further call would wait for a server that is gone

    def __init__(
        self,
        *,
        tracking_uri: str | None = None,
        id: str | None = None,
        group: str | None = None,
        tags: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", SECONDS)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", TRIES)
        for talks in ("mlflow.store.db.utils", "lightning.pytorch.loggers.mlflow", "alembic"):
            logging.getLogger(talks).setLevel(logging.ERROR)
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or STORE
        own = {k: v for k, v in ((ID, id), ("group", group)) if v is not None}
        # Given the store itself, Lightning would open it here, where its faults end the run; a server is not asked yet.
        super().__init__(tracking_uri="http://127.0.0.1", tags={**(tags or {}), **own}, **options)
        self._tracking_uri = uri
        self._id, self._goes_on = id, False

    @property
    def name(self) -> str | None:
        """The experiment's name, without asking for its number."""
        return self._experiment_name

    @property
    def version(self) -> str | None:
        """The run's id, once there is one."""
        return self._run_id

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """MLflow's client, with a run that was found or begun when first asked for."""
        if not self._initialized:
            from mlflow.tracking import MlflowClient

            if self._tracking_uri.startswith(("http://", "https://")) and (fault := unanswered(self._tracking_uri)):
                raise ConnectionError(f"{redacted(self._tracking_uri)}: {fault}")
            self._mlflow_client = MlflowClient(self._tracking_uri)
            self._run_id = self._run_id or self._found()
        return super().experiment

    def _found(self) -> str | None:
        """Look for an earlier part of the run."""
        known = self._mlflow_client.get_experiment_by_name(self._experiment_name)
        if known is None or self._id is None:
            return None
        runs = self._mlflow_client.search_runs([known.experiment_id], f"tags.`{ID}` = '{self._id}'", max_results=1)
        if not runs:
            return None
        self._goes_on = True
        self._mlflow_client.update_run(runs[0].info.run_id, status="RUNNING")
        return runs[0].info.run_id

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log without credentials, or warn once; those of a run that goes on are there, and MLflow lets none change."""
        with self.lenient():
            _ = self.experiment
        if not self._goes_on:
            super().log_hyperparams(params, *args, **kwargs)

    def last_steps(self) -> dict[str, int]:
        """Ask the store for them."""
        client, run_id = self.experiment, self.run_id
        if not self._goes_on:
            return {}
        names = client.get_run(run_id).data.metrics
        return {name: max(metric.step for metric in client.get_metric_history(run_id, name)) for name in names}


def finish_mlflow(logger: MLFlowLogger, results: Mapping[str, float], figures: "Mapping[str, Figure]") -> None:
    """Log test figures and pictures."""
    logger.log_metrics(results)
    for name, figure in figures.items():
        logger.experiment.log_figure(logger.run_id, figure, f"pictures/{name}.png")
