"""Evaluate a student on distorted images."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from rich import box
from rich.table import Table

from stkd_lightning.data.arrays import MaskedSplit, Split
from stkd_lightning.data.clip_arrays import ClipSplit
from stkd_lightning.data.corruption import STRENGTHS, Corruption, DistortedNormalize, names
from stkd_lightning.data.loader import EvalLoader
from stkd_lightning.tasks.base import Score
from stkd_lightning.utilities.errors import InputError

Robustness = dict[str, list[dict[str, float]]]  # metrics by distortion, one mapping for each strength


def check_distortable(loader: EvalLoader) -> None:
    """Refuse samples other than images of one size, gray or in colour.

    Raises:
        InputError: images with masks, images of other channels, or clips.
    """
    if isinstance(loader.split, MaskedSplit | ClipSplit):
        raise InputError("corruptions=true: distorts images of one size, not clips or images with masks; leave it out")
    channels = loader.split.images.shape[1] if isinstance(loader.split, Split) else 3
    if channels not in (1, 3):
        raise InputError(f"corruptions=true: JPEG has 1 or 3 channels, but these images have {channels}; leave it out")


def robustness(trainer: L.Trainer, module: L.LightningModule, loader: EvalLoader, score: Score) -> Robustness:
    """Measure a student on each distortion at each strength.

    Args:
        trainer: runs the evaluations.
        module: with the student.
        loader: the images.
        score: metric that is kept, with calibration error and cross-entropy where the task has them.

    Returns:
        By distortion, the metrics at each strength, weakest first.
    """
    kept = (score.name, "calibration_error", "cross_entropy")
    found: Robustness = {}
    for name in names():
        found[name] = []
        for strength in STRENGTHS:
            distorted = loader.normalized_by(DistortedNormalize(loader.normalize, Corruption(name, strength)))
            values = trainer.test(module, distorted, verbose=False)[0]
            metrics = {metric.removeprefix("test/"): value for metric, value in values.items()}
            found[name].append({metric: metrics[metric] for metric in kept if metric in metrics})
    return found


def mean_score(found: Mapping[str, Sequence[Mapping[str, float]]], score: Score) -> float:
    """Return the mean of the score over distortions and strengths."""
    values = [metrics[score.name] for each in found.values() for metrics in each]
    return sum(values) / len(values)


def robustness_table(found: Robustness, clean: Mapping[str, Any], score: Score) -> Table:
    """Return the score for each distortion at each strength, beside that on clean images."""
    table = Table(title=f"{score.title}: strength of a distortion", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in ("", "none", *map(str, STRENGTHS), "mean"):
        table.add_column(head, justify="right" if head else "left")
    for name, each in found.items():
        values = [clean[score.name], *(metrics[score.name] for metrics in each), mean_score({name: each}, score)]
        table.add_row(name, *(f"{score.factor * value:.2f}" for value in values))
    return table
