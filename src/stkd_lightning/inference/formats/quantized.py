"""The base of formats that compute in fewer bits: a file is written in float32 and then quantized."""

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from stkd_lightning.inference.formats.base import Format
from stkd_lightning.utilities import validation


class QuantizedFormat(Format):
    """A format whose logits differ from those of its student; ``write`` writes the file that is quantized.

    Args:
        calibration_images: number of training images, or clips, whose activations set the ranges of the integers.

    Raises:
        InputError: an argument outside its range.
    """

    def __init__(self, calibration_images: int) -> None:
        self.calibration_images = validation.whole("format.calibration_images", calibration_images, minimum=1)

    @abstractmethod
    def quantize(self, source: Path, path: Path, batches: Iterable[Tensor]) -> None:
        """Quantize a file in float32, and keep its ``metadata``.

        Args:
            source: the file in float32.
            path: of the quantized file.
            batches: inputs of the network ``(B, ...)`` for the calibration.
        """
