"""The representation of a teacher as a task: a map for each image, and no label."""

from dataclasses import dataclass

from torch import Tensor
from torchmetrics import MeanMetric

from stkd_lightning.tasks.base import Metrics, Score, Task
from stkd_lightning.utilities.dtypes import at_least_float32


class RepresentationMetrics(Metrics):
    """The mean squared error of a student's representation.

    - ``representation_error``: mean over images of the mean over channels and positions, in squared units of the map.
    """

    def __init__(self) -> None:
        super().__init__()
        self.error = MeanMetric(nan_strategy="disable")

    def update(self, student: Tensor, labels: Tensor, teacher: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            student: representations ``(B, C, H, W)``.
            labels: not read.
            teacher: representations of the same shape.

        Raises:
            ValueError: there is no teacher, or its representations have another shape.
        """
        if teacher is None or student.shape != teacher.shape:
            other = None if teacher is None else tuple(teacher.shape)
            raise ValueError(f"student and teacher need representations of one shape: {tuple(student.shape)}, {other}")
        difference = at_least_float32(student) - at_least_float32(teacher)
        self.error.update(difference.square().flatten(1).mean(1))

    def compute(self, *, with_teacher: bool) -> dict[str, Tensor]:
        """Return ``representation_error``, over all ranks."""
        return {"representation_error": self.error.compute().float()}

    def reset(self) -> None:
        """Drop all batches."""
        self.error.reset()


@dataclass(frozen=True)
class Representation(Task):
    """Outputs of a teacher's front; the mean squared error selects.

    It is not dense: its outputs keep the resolution of the map.

    Attributes:
        shape: of one image's representation, ``(C, H, W)``.
    """

    shape: tuple[int, ...]

    name = "representation"
    score = Score("representation_error", higher=False, unit="")

    def metrics(self) -> RepresentationMetrics:
        """Return new ``RepresentationMetrics``."""
        return RepresentationMetrics()

    def logits_shape(self, num_classes: int, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the representation."""
        return self.shape

    def least_score(self, num_classes: int) -> float:
        """Return 0, which accepts all."""
        return 0.0
