"""What the losses that read inside the networks share: where they read, and how shapes are made to match."""

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.losses.base import Features, Loss, require_teacher
from stkd_lightning.models.probe import Layers, NetworkInspector
from stkd_lightning.tasks.types import ModelOutput
from stkd_lightning.utilities.distributed import gather_with_gradient
from stkd_lightning.utilities.dtypes import at_least_float32
from stkd_lightning.utilities.errors import InputError

Shapes = tuple[torch.Size, ...]


class FeatureLoss(Loss):
    """Base of the losses that compare outputs of inner modules, one of the student with one of the teacher.

    Args:
        student_layers: module path or paths in the student; ``None``: the method's usual place.
        teacher_layers: as many paths in the teacher, likewise.

    Raises:
        InputError: when it is prepared, for a path that is not there, paths of different number, or an output of a
            shape that the method cannot read.
    """

    reads_features = True
    dimensions: tuple[int, ...] | None = None  # that features may have: 4 of maps (B, C, H, W), 2 of vectors (B, C)
    reads_one: bool = False  # a single layer of each network
    learns: bool = False  # has parameters of its own, whose shapes are the networks'

    def __init__(
        self, *, student_layers: str | Sequence[str] | None = None, teacher_layers: str | Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self._built: tuple[Shapes, Shapes] | None = None  # what its own parameters were made for
        self.student_layers, self.teacher_layers = _paths(student_layers), _paths(teacher_layers)
        if self.student_layers and self.teacher_layers:
            self.features = Features(*self._paired(self.student_layers, self.teacher_layers))

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return where the method reads a network if nothing else is said."""
        return layers.stages[-1:]

    def prepare(self, student: NetworkInspector, teacher: NetworkInspector) -> None:
        """Find the layers in both networks, and build what depends on their shapes, unless it was built for these."""
        own = self.student_layers or self._usual(student, "student_layers")
        other = self.teacher_layers or self._usual(teacher, "teacher_layers")
        # Of networks with more and fewer stages, the deepest.
        if not self.student_layers:
            own = own[-len(other) :]
        if not self.teacher_layers:
            other = other[-len(own) :]
        self.features = Features(*self._paired(own, other))
        shapes = self._shapes(student, own), self._shapes(teacher, other)
        if shapes != self._built:
            self.build(*shapes)
        self._built = shapes

    def _usual(self, probe: NetworkInspector, option: str) -> tuple[str, ...]:
        paths = self.default_layers(probe.layers)
        if not paths:
            raise InputError(f"{type(self).__name__}: no stages can be seen in {probe.name}; name {option} of the loss")
        return paths

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Make the loss's own parameters for features of these shapes, the batch first."""

    def _paired(self, student: tuple[str, ...], teacher: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if len(student) != len(teacher):
            raise InputError(
                f"{type(self).__name__}: compares layer with layer, but reads {len(student)} of the student "
                f"({', '.join(student)}) and {len(teacher)} of the teacher ({', '.join(teacher)})"
            )
        if self.reads_one and len(student) > 1:
            raise InputError(f"{type(self).__name__}: reads one layer of each network, not {len(student)}")
        return student, teacher

    def _shapes(self, probe: NetworkInspector, paths: tuple[str, ...]) -> Shapes:
        shapes = probe.shapes(paths)
        for path, shape in zip(paths, shapes, strict=True):
            if self.dimensions and len(shape) not in self.dimensions:
                near = ""
                with suppress(InputError):  # it may have none that can be seen
                    near = f"; its maps: {', '.join(probe.layers.stages)}"
                raise InputError(
                    f"{type(self).__name__}: reads feature maps (B, C, H, W), but {path!r} of {probe.name} gives "
                    f"{_words(shape)}{near}"
                )
        return shapes

    def pairs(self, student: ModelOutput, teacher: ModelOutput | None) -> list[tuple[Tensor, Tensor]]:
        """Return the features to compare, the teacher's as constants.

        Raises:
            RuntimeError: the loss was given no layers, or has learned parts, and has not been prepared.
        """
        if not self.features.student or (self.learns and self._built is None):
            raise RuntimeError(
                f"{type(self).__name__} is not fitted to the networks yet: DistillationModule does it, by prepare()"
            )
        teacher = require_teacher(teacher, self)
        paths = zip(self.features.student, self.features.teacher, strict=True)
        return [(student.features[own], teacher.features[other].detach()) for own, other in paths]


class StagesLoss(FeatureLoss):
    """Base of the losses that compare the feature maps of all stages."""

    dimensions = (4,)

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return all stages."""
        return layers.stages


class PairwiseLoss(FeatureLoss):
    """Base of the losses over pairs of samples of the global batch, by default of the pooled features."""

    reads_one = True
    smallest_batch = 2

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the pooled features' path."""
        return (layers.embedding,)

    def samples(self, student: ModelOutput, teacher: ModelOutput | None) -> tuple[Tensor, Tensor]:
        """Return every rank's features, flat: ``(B, d_s)`` and ``(B, d_t)``."""
        ((own, other),) = self.pairs(student, teacher)
        return everyone(own.flatten(1)), everyone(other.flatten(1))


def embedded(embedding: nn.Module, features: Tensor) -> Tensor:
    """Return an embedding of features, which may be of another precision than its weights."""
    return embedding(features.to(next(embedding.parameters(), features).dtype))


def everyone(tensor: Tensor) -> Tensor:
    """Return the global batch of ``(B, ...)`` tensors, with gradients, in float32 or better."""
    return gather_with_gradient(at_least_float32(tensor))


def check_pairs(student: Tensor, teacher: Tensor) -> None:
    """Refuse what has no pairs of samples to compare.

    Raises:
        InputError: a batch of one.
        ValueError: batches of different size.
    """
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher features need one batch: {tuple(student.shape)}, {tuple(teacher.shape)}")
    if len(student) < 2:
        raise InputError(f"a loss over pairs of samples needs a batch of at least 2, this one has {len(student)}")


def check_maps(student: Tensor, teacher: Tensor) -> None:
    """Refuse what are not two batches of feature maps.

    Raises:
        ValueError: not ``(B, C, H, W)``, or batches of different size.
    """
    if student.ndim != 4 or teacher.ndim != 4 or len(student) != len(teacher):
        raise ValueError(
            f"student and teacher need feature maps (B, C, H, W) of one batch: {tuple(student.shape)}, "
            f"{tuple(teacher.shape)}"
        )


def same_resolution(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two feature maps ``(B, C, H, W)`` to the smaller's resolution."""
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return pooled(student, size), pooled(teacher, size)


def pooled(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Average-pool a map ``(B, C, H, W)`` to a size; as it is where it has that size."""
    return features if features.shape[2:] == size else F.adaptive_avg_pool2d(features, size)


def _paths(layers: str | Sequence[str] | None) -> tuple[str, ...]:
    return (layers,) if isinstance(layers, str) else tuple(layers or ())


def _words(shape: torch.Size) -> str:
    return f"({', '.join(['B', *map(str, shape[1:])])})"
