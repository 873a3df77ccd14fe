"""Draw the figures of an evaluation as PNG files."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from stkd_lightning.commands.diagnose import Extent, measure
from stkd_lightning.data.batches import samples_of
from stkd_lightning.data.loader import EvalLoader
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.utilities.files import write_bytes
from stkd_lightning.utilities.random import generator

DPI = 200  # of the files
BATCH = 64


def write_figures(
    folder: Path,
    student: nn.Module,
    data: ArrayDataModule,
    loader: EvalLoader,
    metrics: Mapping[str, float],
    split: str,
    device: torch.device,
) -> list[str]:
    """Write the figures of a student without its teacher.

    Args:
        folder: created if it does not exist.
        student: the evaluated network.
        data: its data module.
        loader: the evaluated images.
        metrics: of the evaluation.
        split: name of the images' split.
        device: of the computation.

    Returns:
        The names of the files.
    """
    from stkd_lightning.reporting.figures import figure_style, png  # the import takes a second
    from stkd_lightning.reporting.figures.evaluation import evaluation_figures

    extent = Extent()
    drawn = generator(data.split_seed, "sample").permutation(loader.indices)[: extent.images]
    order = torch.from_numpy(drawn).to(loader.split.inputs.device)
    sample = samples_of(loader.split, order, min(BATCH, loader.batch_size), loader.normalize)
    diagnostics = measure(student, None, data, sample, device, extent)
    folder.mkdir(parents=True, exist_ok=True)
    with figure_style(data.class_names):
        figures = evaluation_figures(diagnostics, metrics, data.class_names, split)
        for name, figure in figures.items():
            write_bytes(folder / f"{name}.png", png(figure, DPI))
    return [f"{name}.png" for name in figures]
