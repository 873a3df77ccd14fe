"""Find the layers of a classifier in a recorded run."""

from torch import nn

from stkd_lightning.models.feature_hooks import INPUT
from stkd_lightning.models.layers import Layers
from stkd_lightning.models.recording import Recording
from stkd_lightning.utilities.errors import InputError


def classifier_layers(recording: Recording, name: str) -> Layers:
    """Return the last outer module of each resolution as stages, and the input of the last linear layer.

    A network with maps of only one resolution, such as a transformer's patches, has no stages.

    Args:
        recording: a run on an image.
        name: of the network, for messages.

    Raises:
        InputError: the network has no linear layer.
    """
    calls = [c for c in recording.calls if c.shape and not isinstance(c.module, nn.Dropout | nn.Softmax)]  # no maps
    maps: dict[tuple[int, ...], str] = {}
    for call in calls:
        if isinstance(call.module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
            continue  # the output of a pooling is not a stage
        resolution = call.shape[2:]
        # A deeper path is inside a block; the block ends in another resolution.
        if recording.is_map(call.shape) and call.path.count(".") <= maps.get(resolution, call.path).count("."):
            maps[resolution] = call.path
    stages = tuple(maps.values()) if len(maps) > 1 else ()
    heads = [i for i, call in enumerate(calls) if isinstance(call.module, nn.Linear)]
    if not heads:
        raise InputError(f"{name}: no linear classifier was found; set student_layers and teacher_layers of the loss")
    head = calls[heads[-1]]
    inputs = [call.path for call in calls[: heads[-1]] if call.shape[1:].numel() == head.module.in_features]
    *_, pooled = ("", *maps.values())
    return Layers(stages, pooled, inputs[-1] if inputs else f"{head.path}{INPUT}", head.path)
