"""Networks: the CIFAR zoo by name, networks for segmentation and sound, and adapters for other libraries."""

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from stkd_lightning.models.adapters.huggingface import huggingface_model
from stkd_lightning.models.adapters.smp import smp_model
from stkd_lightning.models.adapters.timm import timm_model
from stkd_lightning.models.adapters.torchvision import torchvision_model
from stkd_lightning.models.adapters.torchvision_segmentation import torchvision_segmentation_model
from stkd_lightning.models.audio.cnn import cnn
from stkd_lightning.models.audio.crnn import crnn
from stkd_lightning.models.audio.log_mel import LogMel
from stkd_lightning.models.audio.tagger import SpectrogramTagger, Tagger
from stkd_lightning.models.cifar import zoo
from stkd_lightning.models.classifier_reuse import reuse_classifier
from stkd_lightning.models.feature_hooks import FeatureTap
from stkd_lightning.models.input_adapter import AdaptedInput, InputSpec, for_data
from stkd_lightning.models.layers import Layers
from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.models.segmentation.dilated_resnet import DilatedResNet
from stkd_lightning.models.spirit import SpiritStudent, spirit_front, spirit_student
from stkd_lightning.models.weights import load_weights
from stkd_lightning.utilities.errors import unknown

__all__ = [
    "AdaptedInput",
    "DilatedResNet",
    "FeatureTap",
    "InputSpec",
    "Layers",
    "LogMel",
    "NetworkInspector",
    "SpectrogramTagger",
    "SpiritStudent",
    "Tagger",
    "cnn",
    "create_model",
    "crnn",
    "for_data",
    "huggingface_model",
    "list_models",
    "reuse_classifier",
    "smp_model",
    "spirit_front",
    "spirit_student",
    "timm_model",
    "torchvision_model",
    "torchvision_segmentation_model",
]


def list_models() -> list[str]:
    """Return the names of the networks of the zoo, for ``create_model``.

    Example:
        >>> from stkd_lightning.models import list_models
        >>> len(list_models()), list_models()[:3]
        (22, ['MobileNetV2', 'ResNet50', 'ShuffleV1'])
    """
    return list(zoo.__all__)


def create_model(
    name: str, num_classes: int, weights: str | Path | None = None, weights_key: str | None = None
) -> nn.Module:
    """Build a network of the zoo.

    Args:
        name: a name from ``list_models()``.
        num_classes: number of logits.
        weights: checkpoint to load, in any format of ``load_weights``.
        weights_key: which weights of the checkpoint, if several fit; see ``load_weights``.

    Raises:
        InputError: an unknown name, or weights that do not fit.

    Example:
        >>> from stkd_lightning.models import create_model
        >>> sum(parameter.numel() for parameter in create_model("resnet8x4", num_classes=100).parameters())
        1233540
        >>> create_model("resnet8x5", num_classes=100)
        Traceback (most recent call last):
        stkd_lightning.utilities.errors.InputError: network 'resnet8x5': unknown; did you mean resnet8x4 ...
    """
    if name not in zoo.__all__:
        raise unknown("network", name, zoo.__all__)
    network: nn.Module = getattr(zoo, name)(num_classes=num_classes)
    if weights is not None:
        load_weights(network, weights, weights_key)
    return network


def __getattr__(name: str) -> Any:
    if name == "Probe":
        warnings.warn("models.Probe is now models.NetworkInspector", DeprecationWarning, stacklevel=2)
        return NetworkInspector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
