"""Compare the logits of an exported file with those of its student."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.inference.formats.base import Format
from stkd_lightning.inference.student import Student
from stkd_lightning.utilities.errors import RunError
from stkd_lightning.utilities.float32 import exact_float32

OTHER = 64  # smallest side of the images of other sides, in pixels, without what is added to a multiple of 8
TOLERANCE = 1e-4  # largest difference of a logit, times the largest logit if it is above 1


@exact_float32()
def largest_difference(student: Student, export_format: Format, path: Path, images: Tensor) -> float:
    """Run an exported file on a single image and on all images, and return the largest difference of a logit.

    The file of a dense task also runs on images of other sides, which are not multiples of a network's strides.

    Args:
        student: the exported student.
        export_format: format of the file.
        path: of the file.
        images: normalized inputs ``(B, ...)``, B > 1.

    Raises:
        RunError: a file that cannot be run, or a difference above ``TOLERANCE``.
    """
    with torch.inference_mode():
        batches = compared(student, images)
        expected = [student(batch) for batch in batches]
        try:
            network = export_format.read(path, student.facts)
            results = [network(batch) for batch in batches]
        except Exception as error:  # many libraries have many types
            message = " ".join(str(error).split())[:300]
            text = (
                f"format={export_format.name}: the exported file cannot be run on all of these images and was removed "
                f"({message}); another format may express this network: torchscript or safetensors"
            )
            raise RunError(text, passes=False) from error
    largest = 0.0
    for correct, logits in zip(expected, results, strict=True):
        if logits.shape != correct.shape or not bool(logits.isfinite().all()):
            text = f"format={export_format.name}: the exported file returns no logits and was removed"
            raise RunError(text, passes=False)
        largest = max(largest, float((logits - correct).abs().max()))
    if largest > TOLERANCE * max(1.0, float(expected[1].abs().max())):
        raise RunError(
            f"format={export_format.name}: its logits differ from the checkpoint's by {largest:.1e}, "
            f"more than {TOLERANCE}; the exported file was removed",
            passes=False,
        )
    return largest


def compared(student: Student, images: Tensor) -> list[Tensor]:
    """Return the batches on which a file is compared with its student."""
    if student.facts.sample_rate is not None:  # clips or spectrograms of another length, too
        time = 2 if student.facts.outside else 1
        return [images[:1], images, images[:1].narrow(time, 0, 2 * images.shape[time] // 3)]
    if not student.facts.task.dense:
        return [images[:1], images]
    several = images if len(images) > 1 else torch.cat([images, images.flip(3)])
    height, width = (max(OTHER, 2 * side // 3 // 8 * 8) for side in images.shape[2:])
    other = F.interpolate(images[:1], (height + 3, width + 5), mode="bilinear", antialias=True)
    return [images[:1], several, other]
