"""Predict the classes of images or of their pixels, or the tags of sound files, with a student."""

import warnings
from collections import Counter
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich import box
from rich.table import Table
from tqdm import tqdm

from stkd_lightning.commands.chosen_run import student_path
from stkd_lightning.commands.config.command_checks import SUFFIXES
from stkd_lightning.commands.image_list import find_images
from stkd_lightning.commands.predict_masks import predict_masks, unpredicted
from stkd_lightning.commands.predict_tags import predict_tags
from stkd_lightning.commands.training.fit import quiet
from stkd_lightning.data.audio_files import ENDINGS
from stkd_lightning.inference.load import load_student
from stkd_lightning.inference.predict import Prediction, predictions
from stkd_lightning.inference.prediction_file import prediction_file
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.tagging_student import TaggingStudent
from stkd_lightning.models.audio.tagger import Tagger
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, RunError
from stkd_lightning.utilities.list_validation import optional_sides

SHOWN = 10  # rows of the tables


def predict(config: DictConfig) -> None:
    """Run a composed ``predict.yaml``.

    Args:
        config: the checked configuration.

    Raises:
        InputError: there is no image, the checkpoint cannot be read, or an option is of another task.
        RunError: some images cannot be read; raised at the end, when all others are predicted.
    """
    quiet()
    warnings.filterwarnings("ignore", module="PIL")  # a damaged image is named with its error
    student = load_student(student_path(Path(config.checkpoint)), trust=config.trust)
    hears = student.facts.sample_rate is not None
    named = [config.images] if isinstance(config.images, str) else list(config.images)
    images = find_images(named, ENDINGS, "sound file") if hears else find_images(named)
    output = None if config.output is None else Path(config.output)
    window = optional_sides("window", config.window)
    _check_task(student, output, window, frames=config.frames)
    student.to(_device(config.device))
    if student.facts.task.dense:
        images = unpredicted(images, output)
        broken = predict_masks(student, images, output, window=window, overlays=config.overlays)
    elif isinstance(student, TaggingStudent):
        paths = [image.path for image in images]
        broken = predict_tags(student, paths, output, top=config.top, frames=config.frames)
    else:
        broken = _predict_classes(student, [image.path for image in images], output, config)
    if broken:
        rest = f"; the others are in {output}" if output else ""
        kind = "clips" if hears else "images"
        raise RunError(f"{len(broken):,} of {len(images):,} {kind}: {_shortened(broken)}{rest}", passes=False)


def _check_task(student: Student, output: Path | None, window: tuple[int, int] | None, *, frames: bool) -> None:
    """Refuse options that do not fit the student's task.

    Raises:
        InputError: names the option.
    """
    is_file = output is not None and output.suffix in SUFFIXES
    if student.facts.task.dense:
        if is_file:
            raise InputError(f"output={output}: this student predicts masks; name a folder, such as output=predicted")
    elif window is not None:
        raise InputError("window: is for masks, but this student classifies whole images; leave it out")
    elif output is not None and not is_file:
        raise InputError(f"output={output}: must be a file that ends in .csv or .json")
    if frames and (student.facts.sample_rate is None or not isinstance(student.network, Tagger)):
        raise InputError("frames=true: needs a checkpoint of a cnn or crnn; others give no frames; leave it out")
    if frames and output is None:
        raise InputError("frames=true: frames are not printed; name a file, such as output=tags.json")
    if frames and output is not None and output.suffix != ".json":
        raise InputError(f"frames=true: frames do not fit into {output}; name a .json file")


def _predict_classes(student: Student, paths: list[Path], output: Path | None, config: DictConfig) -> list[str]:
    """Predict and print the classes of images, and write them to a file; return a line for each image without any."""
    top = min(config.top, len(student.class_names))
    first: list[Prediction] = []
    counts: Counter[str] = Counter()
    broken: list[str] = []
    results = predictions(student, paths, top=top, batch_size=config.batch_size)
    with prediction_file(output, top) as write:
        bar = tqdm(zip(paths, results, strict=True), "predict", len(paths), unit="image", leave=False, disable=None)
        for path, prediction in bar:
            write(path, prediction)
            if isinstance(prediction, InputError):
                broken.append(str(prediction))
                continue
            counts[prediction.classes[0]] += 1
            if len(first) < SHOWN:
                first.append(prediction)
    print_rank_zero(_first_table(first, counts.total()))
    print_rank_zero(_class_table(counts))
    if output is not None:
        print_rank_zero(f"{output}: {len(paths):,} images")
    return broken


def _device(name: str) -> torch.device:
    """Return the device of the network.

    Raises:
        InputError: the device does not exist.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={name}: not available; set device=cpu") from error


def _shortened(broken: list[str]) -> str:
    more = f"; and {len(broken) - SHOWN:,} more" if len(broken) > SHOWN else ""
    return "; ".join(message.removeprefix("image ").removeprefix("clip ") for message in broken[:SHOWN]) + more


def _first_table(first: list[Prediction], total: int) -> Table:
    """Return the table of the first images."""
    table = _table(f"the first {len(first)} of {total:,} images" if total > len(first) else f"{total:,} images")
    for column in ("image", "class", "probability", "next"):
        table.add_column(column, justify="right" if column == "probability" else "left", overflow="fold")
    for prediction in first:
        runners_up = zip(prediction.classes[1:3], prediction.probabilities[1:3], strict=True)
        following = ", ".join(f"{runner_up} {p:.3f}" for runner_up, p in runners_up)
        image, name = str(prediction.path), prediction.classes[0]
        table.add_row(image, name, f"{prediction.probabilities[0]:.3f}", following)
    return table


def _class_table(counts: Counter[str]) -> Table:
    """Return the table of the number of images of each class."""
    rest = f", the most frequent {SHOWN} of {len(counts)}" if len(counts) > SHOWN else ""
    table = _table(f"classes{rest}")
    table.add_column("class", overflow="fold")
    table.add_column("images", justify="right")
    for name, number in counts.most_common(SHOWN):
        table.add_row(name, f"{number:,}")
    return table


def _table(title: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
