"""Find the layers of a segmentation network in a recorded run."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import dropout, pooling

from stkd_lightning.models.feature_hooks import INPUT
from stkd_lightning.models.layers import Layers
from stkd_lightning.models.recording import Call, Recording
from stkd_lightning.utilities.errors import InputError

EXACT = 0.01  # largest relative error of resized scores; half precision has 0.001, another head about 1
RESOLUTIONS = 3  # an encoder has maps of at least so many; a stem has one or two
POOLINGS = (pooling._MaxPoolNd, pooling._AvgPoolNd, pooling._AdaptiveAvgPoolNd, pooling._AdaptiveMaxPoolNd)
RESIZES: tuple[dict[str, Any], ...] = (
    {"mode": "bilinear", "align_corners": False},
    {"mode": "bilinear", "align_corners": True},
    {"mode": "nearest"},
)


def segmentation_layers(recording: Recording, name: str) -> Layers:
    """Return the layers of a network whose output is class scores ``(B, K, h, w)``; see ``Layers``.

    The head is the module whose output, resized, is the network's output; an auxiliary head's output is not. The
    stages are the children of the encoder in order of execution; of several with equal channels and resolution the
    last. Poolings are not stages.

    Args:
        recording: a run on an image of noise, with kept tensors.
        name: of the network, for messages.

    Raises:
        InputError: no module gives the scores.
    """
    head = _head(recording)
    if head is None:
        raise InputError(f"{name}: no module gives its class scores; set student_layers and teacher_layers of the loss")
    encoder, embedding = _encoder(recording), _embedding(recording, head)
    maps = [call for call in _children(recording, encoder) if _is_stage(call, recording, head)]
    stages = tuple(list(group)[-1].path for _, group in groupby(maps, key=lambda call: call.shape))
    *_, pooled = ("", *stages)
    return Layers(stages, pooled, embedding, head.path, _auxiliary(recording, encoder, head, embedding))


def _head(recording: Recording) -> Call | None:
    """Return the first of the smallest outputs that are the network's scores when they are resized."""
    same = [c for c in recording.calls if _gives_scores(c, recording) and _error(c, recording) < EXACT]
    return min(same, key=lambda call: call.positions, default=None)


def _gives_scores(call: Call, recording: Recording) -> bool:
    """Return whether an output has the form of scores: a map of K channels."""
    scores = recording.scores
    return scores is not None and len(call.shape) == 4 and call.shape[:2] == scores.shape[:2]


def _error(call: Call, recording: Recording) -> float:
    """Return the error of an output resized to the scores, relative to the scores; 0 on the meta device."""
    assert call.output is not None
    assert recording.scores is not None
    output, scores = call.output.float(), recording.scores.float()
    if scores.is_meta:
        return 0.0
    resized = (F.interpolate(output, scores.shape[2:], **resize) for resize in RESIZES)
    return min(float((r - scores).norm() / scores.norm().clamp(min=1e-12)) for r in resized)


def _embedding(recording: Recording, head: Call) -> str:
    """Return the path of the first module whose output is the head's input; if there is none, of the input."""
    read = head.inputs[0]
    if not isinstance(read, Tensor):  # several maps, as in LR-ASPP: the last convolution's input is the deepest
        inner = [c for c in recording.calls if _within(c.path, head.path) and isinstance(c.module, nn.Conv2d)]
        return _embedding(recording, inner[-1]) if inner else f"{head.path}{INPUT}"
    # A dropout's output is its input only in evaluation.
    same = (c for c in recording.calls if _is_equal(c.output, read) and not isinstance(c.module, dropout._DropoutNd))
    return next((call.path for call in same), f"{head.path}{INPUT}")


def _is_equal(output: Tensor | None, read: Tensor) -> bool:
    return output is not None and output.shape == read.shape and not read.is_meta and torch.equal(output, read)


def _encoder(recording: Recording) -> str:
    """Return the path of the innermost first module that has maps of several resolutions; empty for the network."""
    path = ""
    while children := _children(recording, path):
        inside = (c.shape for c in recording.calls if _within(c.path, children[0].path))
        if len({shape[2:] for shape in inside if recording.is_map(shape)}) < RESOLUTIONS:
            break
        path = children[0].path
    return path


def _is_stage(call: Call, recording: Recording, head: Call) -> bool:
    return recording.is_map(call.shape) and not isinstance(call.module, POOLINGS) and not _within(head.path, call.path)


def _children(recording: Recording, path: str) -> list[Call]:
    """Return the calls of a module's children in order of execution; for a child that is not called, of its children.

    Lists of modules, and slices of a sequence that a network runs, are not called.
    """
    called = {call.path for call in recording.calls}

    def below(path: str) -> Iterator[str]:
        for name, _ in recording.network.get_submodule(path).named_children():
            child = f"{path}.{name}" if path else name
            yield from [child] if child in called else below(child)

    paths = set(below(path))
    return [call for call in recording.calls if call.path in paths]


def _auxiliary(recording: Recording, encoder: str, head: Call, embedding: str) -> str:
    """Return the path of another head: an outer module beside the encoder that gives maps of K channels."""
    main = (encoder, head.path, embedding)
    others = [c for c in _children(recording, "") if encoder and not any(_within(path, c.path) for path in main)]
    return next((call.path for call in others if _gives_scores(call, recording)), "")


def _within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(f"{outer}.")
