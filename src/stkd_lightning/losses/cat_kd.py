"""Class Attention Transfer Based Knowledge Distillation: Guo et al. 2023, Sec. 3 (arXiv:2304.12777)."""

from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import FeatureLoss, average_pool
from stkd_lightning.losses.functional import unit
from stkd_lightning.models.classifier_reuse import pooled_width
from stkd_lightning.models.feature_hooks import WEIGHT
from stkd_lightning.models.layers import Layers
from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError


@full_precision
def class_activation(features: Tensor, weight: Tensor, *, side: int) -> Tensor:
    """Return the class activation maps of a classifier on averaged features, pooled to a side.

    The map of class c is the sum over channels of ``w_c`` times the features, without the classifier's bias.

    Args:
        features: ``(B, C, H, W)``, before the average.
        weight: of the classifier, ``(K, C)``.
        side: r >= 1.

    Returns:
        ``(B, K, r, r)``.
    """
    pooled = average_pool(features, (side, side))  # before the classifier: both are linear
    return (weight @ pooled.flatten(2)).unflatten(2, (side, side))


@full_precision
def class_attention_transfer(student: Tensor, teacher: Tensor, *, normalize: bool = False) -> Tensor:
    """Mean squared difference of class activation maps.

    Args:
        student: ``(B, K, r, r)``; carries the gradient.
        teacher: the same shape; treated as a constant.
        normalize: divide each map by its L2 norm over positions; a zero map stays zero.

    Returns:
        Scalar, in squared units of the logits, or of directions; the mean over ``B K r**2`` entries.

    Raises:
        ValueError: the shapes are not equal, or not ``(B, K, r, r)``.
    """
    if student.ndim != 4 or student.shape != teacher.shape:
        raise ValueError(
            "student and teacher class activations need one equal shape (B, K, r, r): "
            f"{tuple(student.shape)}, {tuple(teacher.shape)}"
        )
    maps = [student.flatten(2), teacher.detach().flatten(2)]
    left, right = (unit(m) for m in maps) if normalize else maps
    return F.mse_loss(left, right)


class CATKDLoss(FeatureLoss):
    """``class_attention_transfer`` of both networks' ``class_activation``; term ``cat_kd``.

    The authors add it to cross-entropy on CIFAR-100 with settings for each pair. Unnormalized, r = 2: weight 15 for
    resnet32x4 to resnet8x4, 12 and 1.5 for wrn_40_2 to wrn_16_2 and wrn_40_1, 0.7 for resnet56 to resnet20, 1.8 for
    resnet110 to resnet32, 4.5 for vgg13 to vgg8. Normalized: r = 4 and weight 600 for resnet32x4 to ShuffleV1 and
    ShuffleV2, 80 for wrn_40_2 to ShuffleV1; r = 2 and weight 15 and 40 for vgg13 and ResNet50 to MobileNetV2. Their
    networks have no bias in the classifier, whose weights start as those of a convolution.

    The weights of the student's classifier get a gradient, those of the teacher's are constants. Both networks need a
    linear classifier on a globally averaged map.

    Args:
        side: r >= 1, side of the pooled maps.
        normalize: see ``class_attention_transfer``.

    Raises:
        InputError: an argument is outside its range; in ``prepare``, a network has another classifier.
    """

    reads_logits = True  # the teacher's classifier
    traceable = True

    def __init__(self, *, side: int = 2, normalize: bool = False) -> None:
        super().__init__()
        self.side = validation.whole("loss.side", side, minimum=1, maximum=1024)
        self.normalize = validation.switch("loss.normalize", normalize)

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the pooled map and the weight of the classifier."""
        return (layers.pooled, layers.head + WEIGHT)

    def prepare(self, student: NetworkInspector, teacher: NetworkInspector) -> None:
        """Refuse networks without a linear classifier on a globally averaged map."""
        for inspector in (student, teacher):
            pooled_width(inspector, "CAT-KD")
        super().prepare(student, teacher)
        own, other = (shapes[1][0] for shapes in self._built or ())
        if own != other:
            raise InputError(f"CATKDLoss: the student has {own} classes, the teacher {other}")

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"cat_kd"}`` of feature maps ``(B, C, H, W)`` and classifiers' weights ``(K, C)``."""
        (maps, other_maps), (weight, other_weight) = self.pairs(student, teacher)
        own = class_activation(maps, weight, side=self.side)
        other = class_activation(other_maps, other_weight, side=self.side)
        return {"cat_kd": class_attention_transfer(own, other, normalize=self.normalize)}
