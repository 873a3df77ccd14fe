"""Classifiers of torchvision as teachers and students; only ``pretrained`` downloads weights."""

from typing import Any

from torch import nn

from stkd_lightning.models.input_adapter import InputSpec, declare
from stkd_lightning.utilities.errors import InputError, unknown


def torchvision_model(
    name: str, num_classes: int, pretrained: bool | str = False, input_size: int | None = None, **options: Any
) -> nn.Module:
    """Build a classifier of torchvision.

    Args:
        name: as in ``torchvision.models.list_models()``.
        num_classes: number of logits.
        pretrained: start from torchvision's weights, by their name, such as ``"IMAGENET1K_V2"``, or its best ones,
            with the normalization and image size they were trained with; a new classifier replaces the old one if the
            number of classes differs.
        input_size: side in pixels that images are resized to; ``None``: the size of pretrained weights or of a
            vision transformer, else that of the data.
        options: further arguments of the network.

    Raises:
        InputError: torchvision has no classifier or no weights of this name.
    """
    from torchvision import models
    from torchvision.transforms._presets import ImageClassification

    known = models.list_models(module=models)
    if name not in known:
        raise unknown("torchvision network", name, known)
    if not pretrained:
        network = models.get_model(name, weights=None, num_classes=num_classes, **options)
        spec = InputSpec(getattr(network, "image_size", None))
    else:
        weights = weights_of(name, pretrained)
        network = models.get_model(name, weights=weights, **options)
        preset = weights.transforms()
        if not isinstance(preset, ImageClassification):
            raise InputError(f"torchvision network {name!r}: its weights are not those of an image classifier")
        spec = InputSpec(preset.crop_size[0], tuple(preset.mean), tuple(preset.std))
        replace_classifier(network, num_classes)
    return declare(network, spec.overridden(size=input_size))


def weights_of(name: str, pretrained: bool | str) -> Any:
    """Return torchvision's weights of a network: those of a name, or the best ones.

    Raises:
        InputError: it has none of this name.
    """
    from torchvision import models

    known = models.get_model_weights(name)
    if pretrained is not True and pretrained not in known.__members__:
        raise unknown(f"weights of torchvision's {name}", str(pretrained), known.__members__)
    return known.DEFAULT if pretrained is True else known[str(pretrained)]


def replace_classifier(network: nn.Module, num_classes: int) -> None:
    """Replace the last linear layer if it has another number of outputs."""
    path, last = [(p, m) for p, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
    if last.out_features != num_classes:
        network.set_submodule(path, nn.Linear(last.in_features, num_classes, bias=last.bias is not None))
