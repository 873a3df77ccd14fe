"""The module paths of the features that losses read."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Layers:
    """The module paths of the features that losses read, in a classifier or a segmentation network.

    Attributes:
        stages: feature maps ``(B, C, H, W)`` at the ends of the stages, from input to output; may be empty. In a
            segmentation network those of the encoder; dilated stages of equal resolution are separate stages.
        pooled: the map that is pooled, in a segmentation network the last stage; empty if there is no map.
        embedding: the pooling, or another module whose output ``(B, C, 1, 1)`` or ``(B, C)`` the classifier reads; in
            a segmentation network the map ``(B, C, h, w)`` that the head reads.
        head: the linear classifier; in a segmentation network the module that gives the class scores ``(B, K, h, w)``
            before they are resized to the image.
        auxiliary: the head that gives class scores from an earlier stage in training; empty if there is none.
        after_stages: modules between the last stage and the pooling that are not part of a stage, such as a last 1x1
            convolution with its BatchNorm and activation, in the order in which they run one after another; may be
            empty.
        preactivations: the maps of ``stages`` before the last activation of each stage, as many as there are stages;
            where blocks begin with BatchNorm, as in wide ResNets, the outputs of the BatchNorms that read the stages;
            empty if the network shows none.
        frames: the module that gives the frames ``(B, T, d)`` of a clip, or a map ``(B, C, T, F)``; empty if there is
            none.
    """

    stages: tuple[str, ...]
    pooled: str
    embedding: str
    head: str
    auxiliary: str = ""
    frames: str = ""
    after_stages: tuple[str, ...] = ()
    preactivations: tuple[str, ...] = ()

    def after(self, prefix: str) -> "Layers":
        """Return the layers of a network that is a part of another one, at this path."""

        def moved(paths: str | tuple[str, ...]) -> Any:
            if isinstance(paths, tuple):
                return tuple(f"{prefix}.{path}" for path in paths)
            return f"{prefix}.{paths}" if paths else paths

        return replace(self, **{name: moved(paths) for name, paths in vars(self).items()})
