"""What a W&B run holds beside what the training logs: summaries, source, a table, pictures, the student."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stkd_lightning.reporting.loggers.timeouts import bounded
from stkd_lightning.reporting.summary import RunSummary
from stkd_lightning.utilities.files import BEST, LAST
from stkd_lightning.utilities.redaction import redacted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIGHER = ("accuracy", "top5", "agreement")  # is better
LOWER = ("loss", "cross_entropy", "calibration_error", "teacher_kl")
COLUMNS = ("", "network", "parameters", "FLOPs", "accuracy", "top-5", "ECE", "agreement", "selected")
STEP = "trainer/global_step"


def prepare(run: Any, folder: Path, *, source: bool) -> None:
    """Say how figures are summarized, and keep what the run is made of.

    Args:
        run: W&B's.
        folder: with the resolved configuration.
        source: whether it is kept, with the package's source.
    """
    for stage in ("train", "val"):
        for names, best in ((HIGHER, "max"), (LOWER, "min")):
            for name in names:
                run.define_metric(f"{stage}/{name}", step_metric=STEP, summary=best)
    if source:
        _keep_source(run, folder)


def _keep_source(run: Any, folder: Path) -> None:
    """Keep the package's source and the resolved configuration as an artifact.

    W&B would copy the files to the user's home, and leave those of an offline run there; so they are copied to where
    the run lies, since they may be changed before it is uploaded.
    """
    import wandb

    copy = Path(run.dir).parent / "source"
    package = Path(__file__).parents[2]
    shutil.copytree(package, copy / package.name, ignore=shutil.ignore_patterns("__pycache__", "conf"))
    if (folder / "config.yaml").is_file():
        shutil.copy(folder / "config.yaml", copy)
    artifact = wandb.Artifact("source-stkd-lightning", type="source")  # "code" is W&B's own
    artifact.add_dir(str(copy), policy="immutable")
    bounded(lambda: run.log_artifact(artifact), 0)  # it asks the server, which may be slow


def tell(run: Any, results: Mapping[str, float], summary: RunSummary, figures: "Mapping[str, Figure]") -> None:
    """Log test figures, the table of networks, and pictures."""
    import wandb

    run.summary.update({**results, "summary": redacted(summary.to_plain())})
    if run.disabled:
        return
    shown = {f"pictures/{name}": wandb.Image(figure) for name, figure in figures.items()}
    run.log({"networks": wandb.Table(columns=list(COLUMNS), data=list(_rows(summary))), **shown})


def _rows(summary: RunSummary) -> Iterator[list[Any]]:
    names = (summary.score.name, "top5", "calibration_error", "agreement")
    for label, network in summary.networks.items():
        last, selected = network.test.get("last", {}), network.test.get("selected", {})
        figures = [*(last.get(name) for name in names), selected.get(summary.score.name)]
        yield [label, network.network, network.parameters, network.flops, *figures]


def keep_student(run: Any, folder: Path, summary: RunSummary) -> None:
    """Keep the selected student, or the last one, as an artifact.

    Args:
        run: W&B's.
        folder: with the checkpoints.
        summary: of the run.
    """
    import wandb

    kept = next((path for name in (BEST, LAST) if (path := folder / name).is_file()), None)
    if kept is None or run.disabled:
        return
    student = summary.student
    facts = {
        "data": summary.data.name,
        "method": summary.loss,
        "network": student.network,
        "seed": summary.seed,
        "validation": student.validation,
        "test": student.test["selected" if kept.name == BEST else "last"],
    }
    artifact = wandb.Artifact(f"student-{run.id}", type="model", metadata=facts)
    artifact.add_file(str(kept), name=kept.name, policy="immutable")  # where it lies, also for an upload later on
    run.log_artifact(artifact, aliases=["latest", kept.stem])
