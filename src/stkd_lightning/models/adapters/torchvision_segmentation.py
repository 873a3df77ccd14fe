"""Segmentation networks of torchvision as teachers and students; only ``pretrained`` downloads weights."""

from typing import Any

from torch import Tensor, nn

from stkd_lightning.models.adapters.changed_output import ChangedOutput, with_output
from stkd_lightning.models.adapters.torchvision import weights_of
from stkd_lightning.models.input_adapter import InputSpec, declare
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.image_size import Size


def torchvision_segmentation_model(
    name: str,
    num_classes: int,
    pretrained: bool | str = False,
    auxiliary: bool = False,
    input_size: Size | None = None,
    **options: Any,
) -> nn.Module:
    """Build a segmentation network of torchvision: images ``(B, 3, H, W)`` to scores ``(B, K, H, W)``.

    Args:
        name: as in ``torchvision.models.list_models(module=torchvision.models.segmentation)``.
        num_classes: K.
        pretrained: start from torchvision's weights by their name, or its best ones, with the normalization they were
            trained with; new last convolutions replace the old ones if the number of classes differs.
        auxiliary: keep the auxiliary head, whose scores are the output of the module ``aux_classifier``.
        input_size: size in pixels that images are resized to; ``None``: that of the data.
        options: further arguments of the network, such as ``weights_backbone="DEFAULT"``.

    Raises:
        InputError: torchvision has no segmentation network of this name, or the network has no auxiliary head.
    """
    from torchvision import models

    known = models.list_models(module=models.segmentation)
    if name not in known:
        raise unknown("torchvision segmentation network", name, known)
    if auxiliary and name.startswith("lraspp"):
        raise InputError(f"torchvision segmentation network {name!r}: has no auxiliary head; set auxiliary=false")
    spec = InputSpec(input_size)
    if pretrained:
        weights = weights_of(name, pretrained)
        preset = weights.transforms()
        spec = spec.overridden(mean=tuple(preset.mean), std=tuple(preset.std))
        network = models.get_model(name, weights=weights, **options)
        replace_classifiers(network, len(weights.meta["categories"]), num_classes)
        if not auxiliary and hasattr(network, "aux_classifier"):
            network.aux_classifier = None
    else:
        if auxiliary:
            options["aux_loss"] = True
        # Without weights of its own torchvision would download those of the backbone.
        options = {"weights_backbone": None, **options}
        network = models.get_model(name, weights=None, num_classes=num_classes, **options)
    return declare(with_output(network, MainScores), spec)


def replace_classifiers(network: nn.Module, classes: int, num_classes: int) -> None:
    """Replace the convolutions that give ``classes`` scores, in all heads, if the number of classes differs."""
    for path, module in list(network.named_modules()):
        is_head = path.startswith(("classifier", "aux_classifier")) and isinstance(module, nn.Conv2d)
        if is_head and module.out_channels == classes != num_classes:
            network.set_submodule(path, nn.Conv2d(module.in_channels, num_classes, module.kernel_size))


class MainScores(ChangedOutput):
    """Returns the scores of the main head alone, without those of the auxiliary head."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)["out"]
