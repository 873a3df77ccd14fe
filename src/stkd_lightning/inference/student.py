"""A distilled student for inference, without a data set."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stkd_lightning.data.batches import Normalize
from stkd_lightning.data.decode import decode
from stkd_lightning.inference.predict import Prediction, predictions
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.models.build import build_network
from stkd_lightning.models.feature_hooks import logits_of
from stkd_lightning.models.start import without_start
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.image_size import sides

__all__ = ["Student"]

Paths = str | Path | Sequence[str | Path]


class Student(nn.Module):
    """A frozen classifier in evaluation mode, with the size and normalization of its images.

    Args:
        network: images ``(B, 3, S, S)`` normalized by ``mean`` and ``std`` to logits ``(B, K)``.
        facts: facts about the student.

    Attributes:
        facts: see ``StudentFacts``.
    """

    def __init__(self, network: nn.Module, facts: StudentFacts) -> None:
        super().__init__()
        self.network, self.facts = network, facts
        for parameter in network.parameters():  # TorchScript modules have no ``requires_grad_``
            parameter.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "Student":
        """Stay in evaluation mode for any ``mode``."""
        self.training = False
        for module in self.network.modules():
            module.training = False  # an exported program has no ``eval``
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in the order of the logits."""
        return self.facts.class_names

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, in units of 1 (black 0, white 1); it is subtracted from images."""
        return self.facts.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, in the same units; images are divided by it."""
        return self.facts.std

    @property
    def image_size(self) -> int:
        """Side of the images in pixels; of other than square images, the shorter side."""
        return min(sides(self.facts.image_size))

    @property
    def about(self) -> dict[str, Any]:
        """Origin of the student, as far as it is known: data, method, teacher, accuracies; see ``StudentFacts``."""
        return self.facts.about

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next((tensor.device for tensor in self.network.parameters()), torch.device("cpu"))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, K)`` of normalized images ``(B, 3, S, S)``."""
        return logits_of(self.network(images))

    def preprocess(self, paths: Paths) -> Tensor:
        """Read image files as input of the network, ``(B, 3, H, W)`` float32 on the CPU.

        Images are decoded, resized to cover H x W, or the larger ``evaluation_resize`` of the facts, cropped at the
        centre and normalized as in evaluations.

        Raises:
            InputError: a file that cannot be read.
        """
        pixels = [torch.from_numpy(self.decode(path).copy()) for path in listed(paths)]
        empty = torch.empty(0, 3, *sides(self.facts.image_size))
        return Normalize(self.mean, self.std)(torch.stack(pixels) if pixels else empty)

    def decode(self, path: Path) -> NDArray[np.uint8]:
        """Read an image file as ``(3, H, W)`` uint8, as ``preprocess`` does before it normalizes.

        Raises:
            InputError: a file that cannot be read.
        """
        return decode(path, sides(self.facts.image_size), self.facts.evaluation_resize)

    def predict(self, paths: Paths, top: int = 5) -> list[Prediction]:
        """Return the most probable classes of image files, in their order.

        Args:
            paths: a path or a sequence of paths.
            top: largest number of classes for each image.

        Raises:
            InputError: a file that cannot be read.
        """
        results = []
        for prediction in predictions(self, listed(paths), top=top):
            if isinstance(prediction, InputError):
                raise prediction
            results.append(prediction)
        return results


def listed(paths: Paths) -> list[Path]:
    """Return a path or a sequence of paths as a list."""
    return [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]


def build(facts: StudentFacts, weights: Path) -> nn.Module:
    """Build the network of a student, and load its weights.

    Raises:
        InputError: a network that cannot be built, or weights that do not fit.
    """
    with building(weights), torch.random.fork_rng(devices=[]):  # the first weights are drawn and then replaced
        network = build_network(
            without_start(facts.network),
            facts,
            seed=None,
            checkpoint=str(weights),
            compare_first=True,
            input_size=facts.input.get("size"),
            mean=facts.input.get("mean"),
            std=facts.input.get("std"),
            interpolation=facts.input.get("interpolation"),
        )
        return network.float().eval()


@contextmanager
def building(checkpoint: Path, part: str = "network") -> Iterator[None]:
    """Turn any error of a class that a checkpoint names into one line.

    Raises:
        InputError: the class fails with the options in the checkpoint.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the class may raise any type
        cause = error.__cause__ or error
        raise InputError(f"checkpoint {checkpoint}: its {part} cannot be built ({reason(cause)})") from error
