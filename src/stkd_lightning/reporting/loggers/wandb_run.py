"""Contents of a W&B run beyond the training metrics: summaries, source, a table, figures, the student."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stkd_lightning.reporting.class_counts import ClassCounts
from stkd_lightning.reporting.diagnostics import Diagnostics
from stkd_lightning.reporting.loggers.timeouts import call_with_timeout
from stkd_lightning.reporting.run import Run
from stkd_lightning.reporting.summary import RunSummary
from stkd_lightning.tasks.segmentation_metrics import CLASS_IOU
from stkd_lightning.tasks.tagging_metrics import CLASS_AP
from stkd_lightning.utilities.files import BEST, LAST
from stkd_lightning.utilities.redaction import redacted
from stkd_lightning.utilities.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HIGHER_IS_BETTER = (
    "accuracy", "top5", "agreement", "miou", "pixel_accuracy", "image_quality", "high_precision", "micro_auprc",
    "macro_auprc", "f1",
)  # fmt: skip
LOWER_IS_BETTER = ("loss", "cross_entropy", "calibration_error", "teacher_kl", "quality_variance")
COLUMNS = ("", "network", "parameters", "FLOPs")
# Columns for metrics beside the score, in tables of runs that have the metric.
MEASURES = {
    "top5": "top-5", "calibration_error": "ECE", "pixel_accuracy": "pixels", "image_quality": "image IoU",
    "high_precision": "> 90 %", "quality_variance": "variance", "macro_auprc": "macro-AUPRC", "f1": "F1",
    "agreement": "agreement",
}  # fmt: skip
STEP = "trainer/global_step"
OF_CLASSES = (CLASS_IOU, CLASS_AP)  # starts of the names of the metrics of single classes

Rows = tuple[list[str | int], list[list[Any]]]  # columns and rows of a table


def prepare(run: Any, folder: Path, *, source: bool) -> None:
    """Define how W&B summarizes the metrics, and upload the source code.

    Args:
        run: W&B run.
        folder: folder of the run, with the resolved configuration.
        source: whether the package's source and the configuration are uploaded.
    """
    for stage in ("train", "val"):
        for names, best in ((HIGHER_IS_BETTER, "max"), (LOWER_IS_BETTER, "min")):
            for name in names:
                run.define_metric(f"{stage}/{name}", step_metric=STEP, summary=best)
    if source:
        _log_source(run, folder)


def _log_source(run: Any, folder: Path) -> None:
    """Log the package's source and the resolved configuration as an artifact.

    The files are copied to the run's folder, since they may change before an offline run is uploaded. W&B itself would
    copy them to the user's home, and leave the copies of offline runs there.
    """
    import wandb

    copy = Path(run.dir).parent / "source"
    package = Path(__file__).parents[2]
    shutil.copytree(package, copy / package.name, ignore=shutil.ignore_patterns("__pycache__", "conf"))
    if (folder / "config.yaml").is_file():
        shutil.copy(folder / "config.yaml", copy)
    artifact = wandb.Artifact("source-stkd-lightning", type="source")  # W&B reserves the type "code"
    artifact.add_dir(str(copy), policy="immutable")
    call_with_timeout(lambda: run.log_artifact(artifact), 0)  # it contacts the server, which may be slow


def rendered(figures: "Mapping[str, Figure]") -> dict[str, Any]:
    """Return figures as W&B's images, by their names there; this takes time, but no server."""
    import wandb

    return {f"pictures/{name}": wandb.Image(figure) for name, figure in figures.items()}


def log_results(run: Any, results: Mapping[str, float], finished: Run, images: Mapping[str, Any]) -> None:
    """Log test results, the tables of networks and classes, and images that ``rendered`` returned."""
    import wandb

    summary = finished.summary

    run.summary.update({**results, "summary": redacted(summary.to_plain())})
    if run.disabled:
        return
    tables = {"networks": _networks(summary), **(_classes(summary) or _class_accuracies(finished))}
    shown: dict[str, Any] = {name: wandb.Table(columns=columns, data=rows) for name, (columns, rows) in tables.items()}
    run.log(shown | dict(images))


def _networks(summary: RunSummary) -> Rows:
    """Return the table of networks, with the metrics that one of them has."""
    known = {name for network in summary.networks.values() for name in network.test.get("last", {})}
    names = [summary.score.name, *(n for n in MEASURES if n in known and n != summary.score.name)]
    rows = []
    for label, network in summary.networks.items():
        last, selected = network.test.get("last", {}), network.test.get("selected", {})
        figures = [*(last.get(name) for name in names), selected.get(summary.score.name)]
        rows.append([label, network.network, network.parameters, network.flops, *figures])
    return [*COLUMNS, summary.score.label, *(MEASURES[name] for name in names[1:]), "selected"], rows


def _classes(summary: RunSummary) -> dict[str, Rows]:
    """Return the table of the metric of each class on test images; nothing for a task without one."""
    tests = {label: network.selected_test for label, network in summary.networks.items()}
    names = dict.fromkeys(name for test in tests.values() for name in test if name.startswith(OF_CLASSES))
    rows = [[name.partition("/")[2], *(test.get(name) for test in tests.values())] for name in names]
    return {"classes": (["class", *tests], rows)} if rows else {}


def _class_accuracies(run: Run) -> dict[str, Rows]:
    """Return the table of a classifier's classes, of the images of its diagnostics; nothing without them."""
    found = run.diagnostics_of(Diagnostics)
    if found is None or not len(found.labels):
        return {}
    names = run.summary.data.class_names
    networks = {"teacher": found.teacher_first, run.summary.loss: found.student_first}
    counts = {label: ClassCounts.of(found.labels, first, len(names)) for label, first in networks.items() if len(first)}
    images = next(iter(counts.values())).images.tolist()
    accuracies = [[None if math.isnan(a) else a for a in each.accuracy.tolist()] for each in counts.values()]
    rows = [list(row) for row in zip(map(printable, names), images, *accuracies, strict=True)]
    return {"classes": (["class", "images", *counts], rows)}


def keep_student(run: Any, folder: Path, summary: RunSummary) -> None:
    """Log the selected student as an artifact; without one, the last student.

    Args:
        run: W&B run.
        folder: folder with the checkpoints.
        summary: summary of the run.
    """
    import wandb

    checkpoint = next((path for name in (BEST, LAST) if (path := folder / name).is_file()), None)
    if checkpoint is None or run.disabled:
        return
    student = summary.student
    facts = {
        "data": summary.data.name,
        "method": summary.loss,
        "network": student.network,
        "seed": summary.seed,
        "validation": student.validation,
        "test": student.test["selected" if checkpoint.name == BEST else "last"],
    }
    artifact = wandb.Artifact(f"student-{run.id}", type="model", metadata=facts)
    # "immutable": W&B reads the file in its place instead of a copy, also for a later upload.
    artifact.add_file(str(checkpoint), name=checkpoint.name, policy="immutable")
    run.log_artifact(artifact, aliases=["latest", checkpoint.stem])
