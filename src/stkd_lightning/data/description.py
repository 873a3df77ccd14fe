"""The description of training data in checkpoints and summaries."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.utilities.plain import Count, checked


@dataclass(frozen=True)
class DataDescription:
    """Plain values; those that a file of an older version lacks are ``None``.

    Attributes:
        name: of the data set.
        num_classes: number of classes.
        class_names: in the order of the labels.
        digest: of all images and labels.
        mean: of each channel of the training images, in units of 1.
        std: likewise.
        image_size: side in pixels, or height and width where they differ.
        task: name of the task.
        sample_rate: Hz of clips; ``None`` of images.
        evaluation_resize: height and width that an image covers before its centre is cropped; ``None``: ``image_size``.
    """

    name: str
    num_classes: Count
    class_names: tuple[str, ...]
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: Count | tuple[Count, Count]
    task: str = "classification"
    sample_rate: Count | None = None
    evaluation_resize: tuple[Count, Count] | None = None

    @property
    def noun(self) -> str:
        """The word for several samples: ``images`` or ``clips``."""
        return "images" if self.sample_rate is None else "clips"

    @classmethod
    def of(cls, data: ArrayDataModule) -> "DataDescription":
        """Describe prepared data."""
        return cls(
            data.name,
            data.num_classes,
            data.class_names,
            data.arrays.digest,
            data.mean,
            data.std,
            data.image_size,
            data.task.name,
            data.arrays.sample_rate,
            data.evaluation_resize,
        )

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "DataDescription":
        """Read what ``to_plain`` gave.

        Raises:
            InputError: something else; names the field.
        """
        return checked(
            cls, content, {field.name: None for field in fields(cls)} | {"class_names": (), "task": "classification"}
        )

    def to_plain(self) -> dict[str, Any]:
        """Return plain containers, for JSON and checkpoints."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
