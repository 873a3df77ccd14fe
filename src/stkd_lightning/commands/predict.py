"""Having a student say what it takes images for."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich import box
from rich.table import Table
from tqdm import tqdm

from stkd_lightning.commands.training.fit import quiet
from stkd_lightning.data.image_files import image_files
from stkd_lightning.inference.load import load_student
from stkd_lightning.inference.predict import Prediction, predictions
from stkd_lightning.inference.prediction_file import prediction_file
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, RunError

SHOWN = 10  # rows of the tables


def predict(config: DictConfig) -> None:
    """Run a composed ``predict.yaml``.

    Args:
        config: resolved by Hydra.

    Raises:
        InputError: no image, or a checkpoint that cannot be read.
        RunError: at the end, images that could not be read; the others are predicted.
    """
    quiet()
    paths = found([config.images] if isinstance(config.images, str) else list(config.images))
    student = load_student(config.checkpoint, trust=config.trust)
    student.to(_device(config.device))
    top = min(config.top, len(student.class_names))
    output = None if config.output is None else Path(config.output)
    first: list[Prediction] = []
    counts: Counter[str] = Counter()
    broken: list[str] = []
    results = predictions(student, paths, top=top, batch_size=config.batch_size)
    with prediction_file(output, top) as write:
        bar = tqdm(zip(paths, results, strict=True), "predict", len(paths), unit="image", leave=False, disable=None)
        for path, one in bar:
            write(path, one)
            if isinstance(one, InputError):
                broken.append(str(one))
                continue
            counts[one.classes[0]] += 1
            if len(first) < SHOWN:
                first.append(one)
    print_rank_zero(_rows(first, counts.total()))
    print_rank_zero(_counts(counts))
    if output is not None:
        print_rank_zero(f"{output}: {len(paths):,} images")
    if broken:
        others = f"; the others are in {output}" if output else ""
        raise RunError(f"{len(broken):,} of {len(paths):,} images: {_some(broken)}{others}", passes=False)


def found(places: list[str]) -> list[Path]:
    """Return image files, and those below folders, in order.

    Raises:
        InputError: a path that is not there, or a folder without an image.
    """
    paths: list[Path] = []
    for place in map(Path, places):
        own = image_files(place) if place.is_dir() else [place]
        if not own:
            raise InputError(f"images={place}: holds no image")
        paths += own
    return paths


def _device(name: str) -> torch.device:
    """Return where the network runs.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={name}: is not there; device=cpu always is") from error


def _some(broken: list[str]) -> str:
    more = f"; and {len(broken) - SHOWN:,} more" if len(broken) > SHOWN else ""
    return "; ".join(words.removeprefix("image ") for words in broken[:SHOWN]) + more


def _rows(first: list[Prediction], total: int) -> Table:
    """Lay out the first images."""
    shown = _table(f"the first {len(first)} of {total:,} images" if total > len(first) else f"{total:,} images")
    for column in ("image", "class", "probability", "next"):
        shown.add_column(column, justify="right" if column == "probability" else "left", overflow="fold")
    for one in first:
        following = ", ".join(
            f"{name} {p:.3f}" for name, p in zip(one.classes[1:3], one.probabilities[1:3], strict=True)
        )
        shown.add_row(_plain(one.path), _plain(one.classes[0]), f"{one.probabilities[0]:.3f}", _plain(following))
    return shown


def _counts(counts: Counter[str]) -> Table:
    """Lay out how many images each class was found in."""
    rest = f", the most frequent {SHOWN} of {len(counts)}" if len(counts) > SHOWN else ""
    shown = _table(f"classes{rest}")
    shown.add_column("class", overflow="fold")
    shown.add_column("images", justify="right")
    for name, number in counts.most_common(SHOWN):
        shown.add_row(_plain(name), f"{number:,}")
    return shown


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")


def _plain(value: Any) -> str:
    """Return text in which the console sees no markup."""
    return str(value).replace("[", "\\[")
