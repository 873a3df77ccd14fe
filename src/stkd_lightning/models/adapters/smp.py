"""Networks of segmentation-models-pytorch as teachers and students; only ``pretrained`` downloads weights."""

from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.adapters.changed_output import ChangedOutput, with_output
from stkd_lightning.models.input_adapter import InputSpec, declare
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.image_size import Size


def smp_model(
    name: str,
    num_classes: int,
    encoder: str = "resnet34",
    pretrained: bool | str = False,
    input_size: Size | None = None,
    **options: Any,
) -> nn.Module:
    """Build a segmentation network of segmentation-models-pytorch: images ``(B, 3, H, W)`` to scores ``(B, K, H, W)``.

    Args:
        name: of the architecture, as the library's class: ``Unet``, ``FPN``, ``PSPNet``, ``DeepLabV3Plus``, ...
        num_classes: K.
        encoder: as in ``segmentation_models_pytorch.encoders.get_encoder_names()``; ``tu-...`` is any of timm.
        pretrained: start from the encoder's ImageNet weights, with the normalization they were trained with, or from
            other weights of the library by their name, such as ``"ssl"``.
        input_size: size in pixels that images are resized to; ``None``: that of the data.
        options: further arguments of the architecture, such as ``encoder_depth=4``, or of its encoder, such as
            ``output_stride=8``.

    Raises:
        InputError: the library is not installed, or has no architecture, encoder or weights of this name.
    """
    try:
        import segmentation_models_pytorch as smp
    except ModuleNotFoundError as error:
        raise InputError(
            "segmentation-models-pytorch is not installed: pip install 'stkd-lightning[segmentation]'"
        ) from error
    kinds = {
        kind.__name__: kind
        for kind in vars(smp).values()
        if isinstance(kind, type) and issubclass(kind, smp.base.SegmentationModel)
    }
    if name not in kinds:
        raise unknown("segmentation-models-pytorch network", name, kinds)
    known = smp.encoders.encoders
    if encoder not in known and not encoder.startswith("tu-"):
        near = get_close_matches(encoder, known, n=5)
        raise InputError(
            f"segmentation-models-pytorch encoder {encoder!r}: unknown; the nearest: "
            f"{', '.join(near) or 'see segmentation_models_pytorch.encoders.get_encoder_names()'}"
        )
    weights = "imagenet" if pretrained is True else pretrained or None
    if weights and encoder in known and weights not in known[encoder]["pretrained_settings"]:
        raise unknown(f"weights of the encoder {encoder}", weights, known[encoder]["pretrained_settings"])
    network = kinds[name](encoder_name=encoder, encoder_weights=weights, classes=num_classes, **options)
    freeze_unread_stages(network.encoder)
    spec = InputSpec(input_size)
    if weights:
        preset = smp.encoders.get_preprocessing_params(encoder, weights)
        spec = spec.overridden(mean=tuple(preset["mean"]), std=tuple(preset["std"]))
    return declare(with_output(network, PaddedImages), spec)


def freeze_unread_stages(encoder: Any) -> None:
    """Exclude the stages behind the last map of a shallower encoder from training; DDP waits for their gradients."""
    last = 2 ** (len(encoder.out_channels) - 1)
    with suppress(AttributeError, NotImplementedError):  # an encoder that does not list its stages
        for stride, modules in encoder.get_stages().items():
            for module in modules if stride > last else ():
                module.requires_grad_(False)


class PaddedImages(ChangedOutput):
    """Pads images ``(B, 3, H, W)`` to multiples of the encoder's stride, and crops the scores to ``(B, K, H, W)``.

    The padding is at the right and at the bottom; its value is 0, the mean of normalized images.
    """

    encoder: Any

    def check_input_shape(self, images: Tensor) -> None:
        """Accept padded images without a look at their size, which ``torch.fx`` could not trace."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        stride = self.encoder.output_stride
        padded = F.pad(images, (0, _missing(width, stride), 0, _missing(height, stride)))
        return super().forward(padded)[..., :height, :width]


def _missing(side: int, stride: int) -> int:
    """Return the pixels that a side lacks to a multiple of a stride."""
    # torch.export cannot prove that -side % stride makes a multiple.
    return (side + stride - 1) // stride * stride - side
