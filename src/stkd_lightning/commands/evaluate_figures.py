"""Draw the figures of an evaluation as PNG files, and write the tables beside them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

from stkd_lightning.commands.class_results import class_tables, csv_bytes
from stkd_lightning.commands.diagnose import Extent, measure, pictures_of
from stkd_lightning.data.batches import BatchDataset, samples_of
from stkd_lightning.data.loader import EvalLoader
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.reporting.class_gallery import class_predictions
from stkd_lightning.reporting.classified import Classified
from stkd_lightning.utilities.files import write_bytes
from stkd_lightning.utilities.random import generator

DPI = 200  # of the files
BATCH = 64
SPLITS = {"test": "test", "val": "validation"}  # their names in figures


def write_figures(
    folder: Path,
    student: nn.Module,
    data: ArrayDataModule,
    loader: EvalLoader,
    metrics: Mapping[str, float],
    split: str,
    device: torch.device,
) -> list[str]:
    """Write the figures of a student of masks or tags without its teacher.

    Args:
        folder: created if it does not exist.
        student: the evaluated network.
        data: its data module.
        loader: the evaluated images.
        metrics: of the evaluation.
        split: ``test`` or ``val``.
        device: of the computation.

    Returns:
        The names of the files.
    """
    from stkd_lightning.reporting.figures import figure_style  # the import takes a second
    from stkd_lightning.reporting.figures.evaluation import evaluation_figures

    extent = Extent()
    drawn = generator(data.split_seed, "sample").permutation(loader.indices)[: extent.images]
    order = torch.from_numpy(drawn).to(loader.split.inputs.device)
    sample = samples_of(loader.split, order, min(BATCH, loader.batch_size), loader.normalize)
    diagnostics = measure(student, None, data, sample, device, extent)
    with figure_style(data.class_names):
        return _write(folder, evaluation_figures(diagnostics, metrics, data.class_names, SPLITS[split]))


def write_class_figures(
    folder: Path, images: Classified, data: ArrayDataModule, loader: EvalLoader, split: str
) -> list[str]:
    """Write the figures and tables of a classifier; the images that are shown are read a second time.

    Args:
        folder: created if it does not exist.
        images: all evaluated images.
        data: the data module.
        loader: the evaluated images.
        split: ``test`` or ``val``.

    Returns:
        The names of the files.
    """
    from stkd_lightning.reporting.figures import figure_style  # the import takes a second
    from stkd_lightning.reporting.figures.evaluation import class_figures

    sample = samples_of(loader.split, images.indices[:0].to(loader.split.inputs.device), 1, loader.normalize)
    assert isinstance(sample, BatchDataset)
    name = "test" if split == "test" else data.validation_split
    pictures = pictures_of(data, name, sample)
    predictions = class_predictions(images, pictures)
    with figure_style(data.class_names):
        files = _write(folder, class_figures(images, predictions, data.class_names, SPLITS[split]))
    tables = class_tables(images, data.class_names, pictures.name)
    for file, table in tables.items():
        write_bytes(folder / file, csv_bytes(table))
    return [*files, *tables]


def _write(folder: Path, figures: Mapping[str, Figure]) -> list[str]:
    from stkd_lightning.reporting.figures import png

    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        write_bytes(folder / f"{name}.png", png(figure, DPI))
    return [f"{name}.png" for name in figures]
