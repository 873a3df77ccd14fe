"""A task: what networks predict, and all that training, checkpoints and reports must know of it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from stkd_lightning.tasks.types import MixedTarget
from stkd_lightning.utilities.dtypes import at_least_float32


@dataclass(frozen=True)
class Score:
    """The metric by which students are selected and methods compared.

    Attributes:
        name: of the metric, as the task's metrics give it.
        higher: whether a higher value is better.
        unit: ``"%"`` for a share in [0, 1] that people read in percent; else the unit of the value.
    """

    name: str = "accuracy"
    higher: bool = True
    unit: str = "%"

    @property
    def label(self) -> str:
        """The name as people write it."""
        return {"miou": "mIoU", "micro_auprc": "micro-AUPRC"}.get(self.name, self.name)

    @property
    def title(self) -> str:
        """The label with the unit, for headings and axes."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def factor(self) -> float:
        """The factor from a value to the number that people read: 100 for a share in percent."""
        return 100.0 if self.unit == "%" else 1.0

    def better(self, value: float, than: float) -> bool:
        """Return whether a value is better than another; NaN is never better."""
        return value > than if self.higher else value < than

    def text(self, value: float) -> str:
        """Return a value for people."""
        return f"{value:.1%}" if self.unit == "%" else f"{value:.4g} {self.unit}".rstrip()

    @property
    def worst(self) -> float:
        """A value that every finite one is better than."""
        return float("-inf" if self.higher else "inf")


@dataclass(frozen=True)
class Column:
    """A column of the table that a run ends with.

    Attributes:
        title: its head.
        metric: name of the metric.
        student: ``"last"`` or ``"selected"``.
        percent: show 100 times the value.
        digits: after the decimal point.
    """

    title: str
    metric: str
    student: Literal["last", "selected"] = "last"
    percent: bool = True
    digits: int = 2

    def text(self, test: Mapping[str, Mapping[str, float]]) -> str:
        """Return the cell of a network with these test figures; empty where the metric was not measured."""
        value = test.get(self.student, {}).get(self.metric)
        return "" if value is None else f"{100 * value if self.percent else value:.{self.digits}f}"


@dataclass(frozen=True)
class ClassMetric:
    """A metric of single classes, as a share in [0, 1].

    Attributes:
        prefix: start of the names of the metrics, before the class.
        label: for people.
    """

    prefix: str
    label: str


class Metrics(nn.Module, ABC):
    """Figures of a student over an evaluation, exact over ranks."""

    @abstractmethod
    def update(self, student: Tensor, labels: Tensor, teacher: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            student: logits of the task's shape.
            labels: of the task's shape.
            teacher: logits; ``None`` where there is no teacher.
        """

    @abstractmethod
    def compute(self, *, with_teacher: bool) -> dict[str, Tensor]:
        """Return float32 scalars by name, over all ranks; with a teacher also those that compare with it."""

    @abstractmethod
    def reset(self) -> None:
        """Drop all batches."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Metrics":
        """Move to another device, but keep the precision: the sums of many values do not fit into 16 bits."""
        return super()._apply(lambda tensor: fn(tensor).to(tensor.dtype), recurse)


class Task(ABC):
    """A kind of prediction. A data module names its task; losses, mixing and replay never ask for it.

    A subclass is a frozen dataclass that holds what it needs of the data, such as the label of ignored pixels.

    Attributes:
        name: of the task, in checkpoints.
        score: the metric that selects; its value with a teacher is the metric's name after ``teacher_``.
        columns: of the table that a run ends with.
        of_classes: the metric of single classes; ``None`` if there is none.
        has_pictures: whether reports draw more of it than scores.
        dense: whether there is a prediction for each position; the teacher's logits of evaluations are not kept then.
        exclusive: whether exactly one class is right.
    """

    name: str = ""
    score: Score = Score()
    columns: tuple[Column, ...] = ()
    of_classes: ClassMetric | None = None
    has_pictures: bool = False
    dense: bool = False
    exclusive: bool = True

    @abstractmethod
    def metrics(self) -> Metrics:
        """Return new metrics, which no batch was added to."""

    @abstractmethod
    def logits_shape(self, num_classes: int, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one sample's logits.

        Args:
            num_classes: of the data.
            input_shape: of one sample, for example ``(C, H, W)``.
        """

    @abstractmethod
    def least_score(self, num_classes: int) -> float:
        """Return the score below which a teacher counts as untrained; 0 accepts all."""

    def target(self, labels: Tensor, weights: Tensor) -> MixedTarget:
        """Return the target of mixed samples.

        Args:
            labels: ``(B, k, ...)``: of each sample and its k - 1 partners.
            weights: ``(B, k)``, each row non-negative with sum 1.
        """
        return MixedTarget(labels, weights)

    def seen(self, target: MixedTarget, inputs: Tensor) -> MixedTarget:
        """Return the target with what the (virtual) inputs ``(B, ...)`` say of it, such as the padding of clips."""
        return target

    def unmixed(self, labels: Tensor) -> MixedTarget:
        """Return the target of samples that are not mixed, with labels ``(B, ...)``."""
        target = MixedTarget.unmixed(labels)
        return self.target(target.labels, target.weights)

    def infer(self, network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Return a network's logits of inputs ``(B, ...)`` in an evaluation."""
        return network(inputs)

    def row_classes(self, num_classes: int) -> int:
        """Return the classes of a row of logits (see ``MixedTarget.rows``)."""
        return num_classes

    def entropy(self, logits: Tensor) -> Tensor:
        """Return the entropy of a network's predictions in nats ``(B,)``, a mean over positions."""
        log = at_least_float32(logits).log_softmax(1)
        return -(log.exp() * log).sum(1).reshape(len(log), -1).mean(1)
