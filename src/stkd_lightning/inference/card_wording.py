"""The parts of a model card that differ between tasks."""

from dataclasses import dataclass

from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.tasks.base import Column
from stkd_lightning.tasks.tagging import Tagging
from stkd_lightning.utilities.image_size import shape_of, sides


@dataclass(frozen=True)
class Wording:
    """Words and metrics of a task.

    Attributes:
        tag: name of the task on the Hugging Face hub.
        metrics: names in words of the metrics in the header, by metric; the first one is the score.
        columns: of the table of figures.
        network: what the network is, with its images.
        predict: Python code that predicts a file with ``student``.
        after: Python code that follows the logits in other programs.
        images: how images are brought to the network's input, before the normalization.
        limits: what it does with other kinds of images.
    """

    tag: str
    metrics: dict[str, str]
    columns: tuple[Column, ...]
    network: str
    predict: str
    after: str
    images: str
    limits: str


def wording(facts: StudentFacts) -> Wording:
    """Return the wording of a student's task."""
    if isinstance(facts.task, Tagging):
        return _tagging(facts)
    height, width = sides(facts.image_size)
    return _segmentation(height, width) if facts.task.dense else _classification(height, width, _seen(facts))


def _seen(facts: StudentFacts) -> str:
    """Return in words how images become input."""
    size, cover = (
        "x".join(map(str, sides(part))) for part in (facts.image_size, facts.evaluation_resize or facts.image_size)
    )
    centre = "cropped centrally" if size == cover else f"cropped centrally to {size}"
    return f"RGB, resized to cover {cover} and {centre}"


def _classification(height: int, width: int, seen: str) -> Wording:
    return Wording(
        tag="image-classification",
        metrics={"accuracy": "accuracy", "top5": "top-5 accuracy", "calibration_error": "calibration error"},
        columns=(
            Column("top-1, %", "accuracy"),
            Column("top-5, %", "top5"),
            Column("calibration error", "calibration_error", percent=False, digits=3),
        ),
        network=f"A classifier of {{classes}} classes for images of {height}x{width}",
        predict='print(student.predict("image.png", top=5))',
        after="",
        images=seen,
        limits="its accuracy is unknown, and it predicts one of its classes for any image",
    )


def _segmentation(height: int, width: int) -> Wording:
    return Wording(
        tag="image-segmentation",
        metrics={"miou": "mIoU", "pixel_accuracy": "pixel accuracy", "image_quality": "mean IoU of single images"},
        columns=(
            Column("mIoU, %", "miou"),
            Column("pixel accuracy, %", "pixel_accuracy"),
            Column("image IoU, %", "image_quality"),
        ),
        network=f"A segmentation network of {{classes}} classes for images of any sides, trained at {height}x{width}",
        predict='(mask,) = student.predict("image.png")  # (h, w) uint8: positions in student.class_names',
        after="mask = logits.argmax(1)  # (B, H, W): positions in the classes below",
        images="RGB at full size",
        limits="its quality is unknown, and it gives one of its classes to any pixel",
    )


def _tagging(facts: StudentFacts) -> Wording:
    hears, size = facts.sample_rate is not None, "x".join(map(str, shape_of(len(facts.mean), facts.image_size)[-2:]))
    seconds = facts.image_size / facts.sample_rate if facts.sample_rate and isinstance(facts.image_size, int) else 0
    return Wording(
        tag="audio-classification" if hears else "image-classification",
        metrics={"micro_auprc": "micro-AUPRC", "macro_auprc": "macro-AUPRC", "f1": "F1 at 0.5"},
        columns=(
            Column("micro-AUPRC, %", "micro_auprc"),
            Column("macro-AUPRC, %", "macro_auprc"),
            Column("F1, %", "f1"),
        ),
        network="A tagger of {classes} independent tags for "
        + (f"sound clips of any length, trained at {seconds:g} s" if hears else f"images of {size}"),
        predict=f'(tags,) = student.predict("{"clip.wav" if hears else "image.png"}")\n'
        "print(dict(zip(student.class_names, tags.probabilities.round(3))))",
        after="probabilities = 1 / (1 + exp(-logits))  # (B, C)",
        images=f"Mono, {facts.sample_rate} Hz" if hears else _seen(facts),
        limits="its scores are unknown, and it gives a probability to each of its tags",
    )
