"""Base classes of the losses of dense prediction, which compare class scores or the feature map before them."""

from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.feature_loss import FeatureLoss, Shapes, check_maps
from stkd_lightning.models.probe import Layers
from stkd_lightning.utilities.errors import UndefinedError


class ScoresLoss(FeatureLoss):
    """Base class of losses that compare class scores ``(B, C, H, W)``, before they are resized to the image."""

    reads_logits = True
    dimensions = (4,)
    reads_one = True

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the module that gives the scores."""
        return (layers.head,)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Refuse scores of different numbers of classes.

        Raises:
            InputError: the networks differ in the number of classes.
        """
        if student[0][1] != teacher[0][1]:
            raise UndefinedError(
                f"{type(self).__name__}: compares scores of the same classes, but {self.features.student[0]!r} of the "
                f"student gives {student[0][1]} and {self.features.teacher[0]!r} of the teacher {teacher[0][1]}"
            )


class LastFeatureLoss(FeatureLoss):
    """Base class of losses that compare the last feature map ``(B, C, H, W)``, which the classifier reads."""

    dimensions = (4,)
    reads_one = True

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the map that the classifier reads."""
        return (layers.embedding,)


class SamePositionsLoss(LastFeatureLoss):
    """Base class of losses that compare the last feature maps position by position, which need one resolution."""

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Refuse maps of different resolutions.

        Raises:
            InputError: the networks differ in the resolution of their last feature maps.
        """
        if student[0][2:] != teacher[0][2:]:
            raise UndefinedError(
                f"{type(self).__name__}: compares maps of one resolution, but {self.features.student[0]!r} of the "
                f"student gives {side_text(student[0])} and {self.features.teacher[0]!r} of the teacher "
                f"{side_text(teacher[0])}; loss=cwd compares maps of different resolutions"
            )


def side_text(shape: tuple[int, ...]) -> str:
    """Return the resolution of a map ``(B, C, H, W)`` for people: ``"HxW"``."""
    return "x".join(str(side) for side in shape[2:])


def check_channels(student: Tensor, teacher: Tensor) -> None:
    """Refuse tensors other than two maps ``(B, C, H, W)`` of the same batch with equal numbers of channels.

    Raises:
        ValueError: a shape is not ``(B, C, H, W)``, or batches or channels differ in number.
    """
    check_maps(student, teacher)
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"student and teacher maps need equal numbers of channels: {tuple(student.shape)}, {tuple(teacher.shape)}"
        )


def check_positions(student: Tensor, teacher: Tensor) -> None:
    """Refuse tensors other than two maps ``(B, C, H, W)`` of the same batch and resolution.

    Raises:
        ValueError: a shape is not ``(B, C, H, W)``, or batches or resolutions differ.
    """
    check_maps(student, teacher)
    if student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"student and teacher maps need one resolution: {tuple(student.shape)}, {tuple(teacher.shape)}"
        )


def resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize maps ``(B, C, H, W)`` bilinearly, without aligned corners; return maps of that size unchanged."""
    return maps if maps.shape[2:] == size else F.interpolate(maps, size, mode="bilinear", align_corners=False)
