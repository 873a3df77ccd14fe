"""Base classes of the losses that compare inner features: choice of layers, and matching of shapes."""

from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.losses.base import Features, Loss, require_teacher
from stkd_lightning.models.layers import Layers
from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.models.tokens import mean_of
from stkd_lightning.tasks.types import ModelOutput
from stkd_lightning.utilities.distributed import gather_with_gradient
from stkd_lightning.utilities.dtypes import at_least_float32
from stkd_lightning.utilities.errors import InputError, UndefinedError

Shapes = tuple[torch.Size, ...]


class FeatureLoss(Loss):
    """Base class of losses that compare a layer's output in the student with a layer's output in the teacher.

    Args:
        student_layers: module path or paths in the student; ``None``: the method's default layers.
        teacher_layers: the same number of paths in the teacher; ``None``: the method's default layers.

    Raises:
        InputError: ``prepare`` finds an unknown path, different numbers of paths, or an output whose shape the method
            cannot read.
    """

    reads_features = True
    needs_labels = False
    reads_logits = False
    dimensions: tuple[int, ...] | None = None  # allowed: 4 for maps (B, C, H, W), 2 for vectors (B, C)
    reads_one: bool = False  # exactly one layer of each network
    learns: bool = False  # has trainable parameters, whose shapes depend on the networks
    reads: str = "stages"  # for people: the kind of layers that are read by default

    def __init__(
        self, *, student_layers: str | Sequence[str] | None = None, teacher_layers: str | Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self._built: tuple[Shapes, Shapes] | None = None  # the shapes that the parameters fit
        self.student_layers, self.teacher_layers = _paths(student_layers), _paths(teacher_layers)
        if self.student_layers and self.teacher_layers:
            self.features = self._paired(self.student_layers, self.teacher_layers)

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the layers that the method reads unless the user names others."""
        return layers.stages[-1:]

    def default_teacher_layers(self, layers: Layers) -> tuple[str, ...]:
        """Return the layers of the teacher that the method reads unless the user names others."""
        return self.default_layers(layers)

    def prepare(self, student: NetworkInspector, teacher: NetworkInspector) -> None:
        """Find the layers in both networks, and build the parameters unless they already fit these shapes."""
        student_paths = self.student_layers or self._default_paths(student, self.default_layers, "student_layers")
        teacher_paths = self.teacher_layers or self._default_paths(
            teacher, self.default_teacher_layers, "teacher_layers"
        )
        # Networks may have different numbers of stages: the deepest ones are compared.
        if not self.student_layers:
            student_paths = student_paths[-len(teacher_paths) :]
        if not self.teacher_layers:
            teacher_paths = teacher_paths[-len(student_paths) :]
        self.features = self._paired(student_paths, teacher_paths)
        shapes = self._shapes(student, student_paths), self._shapes(teacher, teacher_paths)
        if shapes != self._built:
            self.build(*shapes)
        self._built = shapes

    def _default_paths(
        self, inspector: NetworkInspector, default: Callable[[Layers], tuple[str, ...]], option: str
    ) -> tuple[str, ...]:
        paths = default(inspector.layers)
        if not paths:
            raise UndefinedError(
                f"{type(self).__name__}: {inspector.name} has no visible {self.reads}; set {option} of the loss"
            )
        return paths

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Create the trainable parameters for features of these shapes; the first dimension is the batch."""

    def _paired(self, student: tuple[str, ...], teacher: tuple[str, ...]) -> Features:
        if len(student) != len(teacher):
            raise InputError(
                f"{type(self).__name__}: compares layer with layer, but reads {len(student)} of the student "
                f"({', '.join(student)}) and {len(teacher)} of the teacher ({', '.join(teacher)})"
            )
        if self.reads_one and len(student) > 1:
            raise InputError(f"{type(self).__name__}: reads one layer of each network, not {len(student)}")
        return Features(student, teacher)

    def _shapes(self, inspector: NetworkInspector, paths: tuple[str, ...]) -> Shapes:
        shapes = inspector.shapes(paths)
        for path, shape in zip(paths, shapes, strict=True):
            if self.dimensions and len(shape) not in self.dimensions:
                maps = ""
                with suppress(InputError):  # a network may have no visible layers
                    maps = f"; its maps: {', '.join(inspector.layers.stages)}"
                raise UndefinedError(
                    f"{type(self).__name__}: reads feature maps (B, C, H, W), but {path!r} of {inspector.name} gives "
                    f"{_shape_text(shape)}{maps}"
                )
        return shapes

    def pairs(self, student: ModelOutput, teacher: ModelOutput | None) -> list[tuple[Tensor, Tensor]]:
        """Return the pairs of student and teacher features to compare; the teacher's are detached.

        Raises:
            RuntimeError: ``prepare`` was not called, and the loss needs default layers or trainable parameters.
        """
        if not self.features.student or (self.learns and self._built is None):
            raise RuntimeError(
                f"{type(self).__name__} is not fitted to the networks yet; call prepare(), as DistillationModule does"
            )
        teacher = require_teacher(teacher, self)
        paths = zip(self.features.student, self.features.teacher, strict=True)
        return [(student.features[path], teacher.features[teacher_path].detach()) for path, teacher_path in paths]


class StagesLoss(FeatureLoss):
    """Base class of losses that compare the feature maps of all stages."""

    dimensions = (4,)

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return all stages."""
        return layers.stages


class PairwiseLoss(FeatureLoss):
    """Base class of losses over pairs of samples of the global batch; they read the pooled features by default.

    Of a transformer's features ``(B, tokens, d)`` they read what the network classifies: the class token, or the mean.
    """

    reads_one = True
    smallest_batch = 2
    tokens: tuple[slice | None, slice | None] = (None, None)  # of student and teacher; set by ``prepare``

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the path of the pooled features."""
        return (layers.embedding,)

    def prepare(self, student: NetworkInspector, teacher: NetworkInspector) -> None:
        """Find the layers in both networks, their tokens, and build the parameters unless they already fit."""
        super().prepare(student, teacher)
        (own,), (other,) = self.features.student, self.features.teacher
        self.tokens = student.tokens(own), teacher.tokens(other)

    def _shapes(self, inspector: NetworkInspector, paths: tuple[str, ...]) -> Shapes:
        shapes = zip(paths, super()._shapes(inspector, paths), strict=True)
        return tuple(s if inspector.tokens(path) is None else torch.Size((s[0], s[2])) for path, s in shapes)

    def pairs(self, student: ModelOutput, teacher: ModelOutput | None) -> list[tuple[Tensor, Tensor]]:
        """Return the pair of features to compare, of transformers the mean of their tokens."""
        return [(mean_of(s, self.tokens[0]), mean_of(t, self.tokens[1])) for s, t in super().pairs(student, teacher)]

    def samples(self, student: ModelOutput, teacher: ModelOutput | None) -> tuple[Tensor, Tensor]:
        """Return the flattened features of all ranks: ``(B, d_s)`` and ``(B, d_t)``."""
        ((student_features, teacher_features),) = self.pairs(student, teacher)
        return global_batch(student_features.flatten(1)), global_batch(teacher_features.flatten(1))


def unsent_buffers(loss: nn.Module) -> list[str]:
    """Return the names of a loss's buffers that ranks need not send each other.

    A memory is made from the global batch, equal on all ranks. BatchNorm statistics in learned parts are never used.
    """
    parts = ((path, part) for path, part in loss.named_modules() if isinstance(part, FeatureLoss))
    return [f"{path}.{name}" if path else name for path, part in parts for name, _ in part.named_buffers()]


def embed(embedding: nn.Module, features: Tensor) -> Tensor:
    """Apply an embedding to features, cast to the dtype of its weights."""
    return embedding(features.to(next(embedding.parameters(), features).dtype))


def global_batch(tensor: Tensor) -> Tensor:
    """Gather the ``(B, ...)`` tensors of all ranks, with gradients, in float32 or better."""
    return gather_with_gradient(at_least_float32(tensor))


def check_pairs(student: Tensor, teacher: Tensor) -> None:
    """Refuse batches without pairs of samples to compare.

    Raises:
        InputError: the batch has one sample.
        ValueError: the batches have different sizes.
    """
    if len(student) != len(teacher):
        raise ValueError(f"student and teacher features need one batch: {tuple(student.shape)}, {tuple(teacher.shape)}")
    if len(student) < 2:
        raise InputError(f"a loss over pairs of samples needs a batch of at least 2, this one has {len(student)}")


def check_maps(student: Tensor, teacher: Tensor) -> None:
    """Refuse tensors other than two feature maps of the same batch.

    Raises:
        ValueError: a shape is not ``(B, C, H, W)``, or the batches have different sizes.
    """
    if student.ndim != 4 or teacher.ndim != 4 or len(student) != len(teacher):
        raise ValueError(
            f"student and teacher need feature maps (B, C, H, W) of one batch: {tuple(student.shape)}, "
            f"{tuple(teacher.shape)}"
        )


def same_resolution(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two feature maps ``(B, C, H, W)`` to the resolution of the smaller."""
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return average_pool(student, size), average_pool(teacher, size)


def average_pool(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Average-pool a map ``(B, C, H, W)`` to a size; return it unchanged if it has that size."""
    return features if features.shape[2:] == size else F.adaptive_avg_pool2d(features, size)


def _paths(layers: str | Sequence[str] | None) -> tuple[str, ...]:
    return (layers,) if isinstance(layers, str) else tuple(layers or ())


def _shape_text(shape: torch.Size) -> str:
    return f"({', '.join(['B', *map(str, shape[1:])])})"
