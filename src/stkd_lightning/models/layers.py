"""The module paths of the features that losses read."""

from dataclasses import dataclass, replace


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
        frames: the module that gives the frames ``(B, T, d)`` of a clip, or a map ``(B, C, T, F)``; empty if there is
            none.
    """

    stages: tuple[str, ...]
    pooled: str
    embedding: str
    head: str
    auxiliary: str = ""
    frames: str = ""

    def after(self, prefix: str) -> "Layers":
        """Return the layers of a network that is a part of another one, at this path."""
        named = {name: f"{prefix}.{path}" for name, path in vars(self).items() if isinstance(path, str) and path}
        return replace(self, stages=tuple(f"{prefix}.{path}" for path in self.stages), **named)
