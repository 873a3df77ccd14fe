"""MLflow logger, for a store in the launch folder or a server."""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from stkd_lightning.reporting.loggers.fault_tolerant import SkipsLoggedSteps
from stkd_lightning.reporting.loggers.timeouts import server_fault
from stkd_lightning.utilities.redaction import redacted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STORE = "sqlite:///mlflow.db"  # the default of MLflow's commands
ID = "stkd_lightning.id"  # the tag that identifies a run for resuming: MLflow chooses run ids itself
SECONDS, TRIES = "8", "1"  # time limit and retries of a request; with MLflow's defaults it can take minutes


class FaultTolerantMLFlowLogger(SkipsLoggedSteps, MLFlowLogger):
    """Lightning's MLflow logger, except that its faults neither stop nor delay a run, and that it can resume a run.

    Args:
        tracking_uri: address of a store or a server; ``None``: ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the
            working directory.
        id: id of the run; the id of an earlier run resumes it.
        group: name of the sweep, logged as a tag.
        tags: tags of the run.
        options: further arguments of ``MLFlowLogger``, for example ``experiment_name``, ``run_name``.
    """

    label = "MLflow"
    stops_after_fault = True  # every further call would wait for the dead server

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
        for verbose in ("mlflow.store.db.utils", "lightning.pytorch.loggers.mlflow", "alembic"):
            logging.getLogger(verbose).setLevel(logging.ERROR)
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or STORE
        run_tags = {k: v for k, v in ((ID, id), ("group", group)) if v is not None}
        # Lightning would open a store here, where a fault stops the run; it does not contact a server yet.
        super().__init__(tracking_uri="http://127.0.0.1", tags={**(tags or {}), **run_tags}, **options)
        self._tracking_uri = uri
        self._id, self._resumed = id, False

    @property
    def name(self) -> str | None:
        """The experiment's name, without a request for its id."""
        return self._experiment_name

    @property
    def version(self) -> str | None:
        """The run's id; ``None`` before the run starts."""
        return self._run_id

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """MLflow's client; the first access resumes or starts the run."""
        if not self._initialized:
            from mlflow.tracking import MlflowClient

            if self._tracking_uri.startswith(("http://", "https://")) and (fault := server_fault(self._tracking_uri)):
                raise ConnectionError(f"{redacted(self._tracking_uri)}: {fault}")
            self._mlflow_client = MlflowClient(self._tracking_uri)
            self._run_id = self._run_id or self._find_run()
        return super().experiment

    def _find_run(self) -> str | None:
        """Return the id of the earlier run to resume, if there is one."""
        experiment = self._mlflow_client.get_experiment_by_name(self._experiment_name)
        if experiment is None or self._id is None:
            return None
        runs = self._mlflow_client.search_runs([experiment.experiment_id], f"tags.`{ID}` = '{self._id}'", max_results=1)
        if not runs:
            return None
        self._resumed = True
        self._mlflow_client.update_run(runs[0].info.run_id, status="RUNNING")
        return runs[0].info.run_id

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log without credentials, or warn once; skip this in a resumed run, since MLflow allows no changes."""
        with self.faults_as_warnings():
            _ = self.experiment
        if not self._resumed:
            super().log_hyperparams(params, *args, **kwargs)

    def last_steps(self) -> dict[str, int]:
        """Return the last steps in the store."""
        client, run_id = self.experiment, self.run_id
        if not self._resumed:
            return {}
        names = client.get_run(run_id).data.metrics
        return {name: max(metric.step for metric in client.get_metric_history(run_id, name)) for name in names}


def finish_mlflow(logger: MLFlowLogger, results: Mapping[str, float], figures: "Mapping[str, Figure]") -> None:
    """Log test results and figures."""
    logger.log_metrics(results)
    for name, figure in figures.items():
        logger.experiment.log_figure(logger.run_id, figure, f"pictures/{name}.png")
