"""Whether a file computes what its student does."""

from pathlib import Path

import torch
from torch import Tensor

from stkd_lightning.inference.formats.base import Format
from stkd_lightning.inference.student import Student
from stkd_lightning.utilities.errors import RunError

TOLERANCE = 1e-4  # of a logit, and of the largest logit where that is above 1


def largest_difference(student: Student, one: Format, path: Path, images: Tensor) -> float:
    """Run a file that was written, on one image and on all, and return the largest difference of a logit.

    Args:
        student: what was written.
        one: the format that wrote it.
        path: of the file.
        images: normalized, ``(B, 3, S, S)``, B > 1.

    Raises:
        RunError: it cannot be run, or differs by more than ``TOLERANCE``.
    """
    with torch.inference_mode():
        batches = images[:1], images
        expected = [student(batch) for batch in batches]
        try:
            network = one.read(path, student.facts)
            found = [network(batch) for batch in batches]
        except Exception as error:  # of many libraries
            words = " ".join(str(error).split())[:300]
            raise RunError(f"format={one.name}: cannot be run again, nothing is left: {words}", passes=False) from error
    largest = 0.0
    for own, logits in zip(expected, found, strict=True):
        if logits.shape != own.shape or not bool(logits.isfinite().all()):
            raise RunError(f"format={one.name}: gives no logits when it is run; nothing is left", passes=False)
        largest = max(largest, float((logits - own).abs().max()))
    if largest > TOLERANCE * max(1.0, float(expected[-1].abs().max())):
        raise RunError(
            f"format={one.name}: its logits differ from the checkpoint's by {largest:.1e}, more than {TOLERANCE}; "
            "nothing is left",
            passes=False,
        )
    return largest
