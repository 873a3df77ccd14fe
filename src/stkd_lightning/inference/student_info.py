"""Facts about a student, without its weights: its network, the images that it expects, and its origin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stkd_lightning.data.audio_files import LONGEST, RATES
from stkd_lightning.inference.about import about_checkpoint, check_about
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.models.input_adapter import is_channels, is_input, is_side
from stkd_lightning.tasks.base import Task
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.tasks.segmentation import Segmentation
from stkd_lightning.tasks.tagging import Tagging
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.image_size import Size

LARGEST = 4096  # pixels of a side; a larger size in an untrusted file could fill the memory


@dataclass(frozen=True)
class StudentFacts:
    """Plain values from a checkpoint or an export.

    Attributes:
        network: node with ``_target_``, without weights.
        input: input of the network itself, as in ``InputSpec``: ``size``, ``mean``, ``std``.
        class_names: in the order of the logits.
        mean: mean of each channel of the training images, in units of 1.
        std: standard deviation, likewise.
        image_size: side in pixels, or height and width; of segmentation, whose images may have any sides, those in
            training; of clips, of any length, the samples in training.
        about: origin of the student, as far as it is known: ``name``, ``data``, ``method``, ``objective``, ``mixup``,
            ``seed``, ``epochs``, ``selection``, and, of ``student``, ``teacher`` and ``alone``, the figures.
        task_name: name of its task; files of older versions do not have it.
        sample_rate: Hz of clips; ``None`` of images. Clips have no mean and std.
        evaluation_resize: height and width that an image covers before its centre is cropped; ``None``: ``image_size``.
        outside: whether an exported file begins behind the front end, with log-mel spectrograms of the clips.
    """

    network: dict[str, Any]
    input: dict[str, Any]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: Size
    about: dict[str, Any]
    task_name: str = Classification.name
    sample_rate: int | None = None
    outside: bool = False
    evaluation_resize: tuple[int, int] | None = None

    @property
    def task(self) -> Task:
        """The task of the network."""
        if self.task_name == Tagging.name:
            return Tagging(self.class_names)
        return Segmentation(self.class_names) if self.task_name == Segmentation.name else Classification()

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return len(self.class_names)


def of_checkpoint(path: Path) -> StudentFacts:
    """Return the facts of a checkpoint, with the figures of its run's ``summary.json`` if it exists.

    Raises:
        InputError: not a checkpoint of this project.
    """
    origin = StudentProvenance.from_checkpoint(path)
    data = origin.data
    facts = {
        "network": origin.network,
        "input": origin.input,
        "class_names": data.class_names,
        "about": about_checkpoint(origin, path),
        "task_name": data.task,
        **{"mean": data.mean, "std": data.std, "image_size": data.image_size},
        "sample_rate": data.sample_rate,
        "evaluation_resize": data.evaluation_resize,
    }
    return checked(facts, f"checkpoint {path}")


def checked(facts: Mapping[str, Any], place: str) -> StudentFacts:
    """Check facts that were read from a file, and return them.

    Args:
        facts: the fields of ``StudentFacts``.
        place: name of the file for messages.

    Raises:
        InputError: names the wrong field.
    """
    input_, task = facts.get("input") or {}, facts.get("task_name", Classification.name)
    size: Any = facts.get("image_size")
    size = tuple(size) if isinstance(size, list) else size
    cover: Any = facts.get("evaluation_resize")
    cover = tuple(cover) if isinstance(cover, list) else cover
    names: Any = facts.get("class_names")
    rate: Any = facts.get("sample_rate")
    hears = isinstance(rate, int) and not isinstance(rate, bool) and RATES[0] <= rate <= RATES[1]
    hears = hears and task == Tagging.name and not facts.get("mean") and not facts.get("std")
    network, about = facts.get("network") or {}, facts.get("about") or {}
    tests = {
        "network": isinstance(network, Mapping),
        "class_names": _listed(names) and len(names) > 0 and all(isinstance(n, str) for n in names),
        "sample_rate": rate is None or hears,
        "mean": is_channels(facts.get("mean")) or hears,
        "std": (is_channels(facts.get("std")) and min(facts["std"]) > 0) or hears,
        "task_name": task in (Classification.name, Segmentation.name, Tagging.name),
        "image_size": is_side(size, LONGEST * rate) if hears else _is_size(size),
        "evaluation_resize": cover is None or (_is_size(cover) and not isinstance(cover, int)),
        "input": is_input(input_, size) if isinstance(size, int) or _is_size(size) else False,
        "about": isinstance(about, Mapping),
    }
    for name, valid in tests.items():
        if not valid:
            raise InputError(f"{place}: its {name} is not valid: {str(facts.get(name))[:100]}")
    return StudentFacts(
        network=dict(network),
        input=dict(input_),
        class_names=tuple(names),
        mean=tuple(map(float, facts["mean"] or ())),
        std=tuple(map(float, facts["std"] or ())),
        image_size=size,
        about=check_about(about, place),
        task_name=task,
        sample_rate=rate,
        outside=bool(facts.get("outside")),
        evaluation_resize=cover,
    )


def _is_size(size: Any) -> bool:
    """Return whether a value is a side, or height and width."""
    pair = isinstance(size, tuple) and len(size) == 2
    return all(is_side(side, LARGEST) for side in (size if pair else [size]))


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
