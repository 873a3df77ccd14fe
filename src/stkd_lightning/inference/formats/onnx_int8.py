"""ONNX that computes in int8, quantized after the training by onnxruntime's own quantizer."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from stkd_lightning.inference.formats.onnx import ONNX
from stkd_lightning.inference.formats.quantized import QuantizedFormat
from stkd_lightning.utilities import validation

BATCH, VALUES = 64, 2**22  # most inputs and values of a calibration at once


class ONNXInt8(ONNX, QuantizedFormat):
    """An ONNX file with pairs of QuantizeLinear and DequantizeLinear (QDQ), which onnxruntime turns into int8 kernels.

    The settings are those that onnxruntime recommends for CPUs (docstring of its ``quantize_static``): activations are
    uint8 in the range from the least to the largest value of the calibration, and weights are int8 in a range of each
    output channel. On x86 CPUs, activations in int8 are no faster than float32.

    Args:
        calibration_images: number of training images whose activations set the ranges.
        reduce_range: quantize weights to 7 bits. Sums of products saturate on x86 CPUs without VNNI otherwise.

    Raises:
        InputError: an argument outside its range.
    """

    name = "onnx_int8"

    def __init__(self, calibration_images: int = 512, reduce_range: bool = False) -> None:
        super().__init__(calibration_images)
        self.reduce_range = validation.switch("format.reduce_range", reduce_range)

    def quantize(self, source: Path, path: Path, batches: Iterable[Tensor]) -> None:
        """Quantize an ONNX file.

        Raises:
            ValueError: no layer can be quantized.
        """
        onnx, quantization = import_module("onnx"), import_module("onnxruntime.quantization")
        with TemporaryDirectory(prefix="stkd_lightning.") as folder, _silent():
            prepared = Path(folder) / "prepared.onnx"
            # The shapes that the quantizer needs are those of convolutions; the symbolic ones are for transformers.
            quantization.quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantization.quantize_static(
                prepared,
                path,
                _reader(quantization.CalibrationDataReader, batches),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                reduce_range=self.reduce_range,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                calibrate_method=quantization.CalibrationMethod.MinMax,
            )
        if not any(tensor.data_type == onnx.TensorProto.INT8 for tensor in onnx.load(path).graph.initializer):
            raise ValueError("no layer has weights that onnxruntime quantizes")


def _reader(base: type, batches: Iterable[Tensor]) -> Any:
    """Return a reader of the inputs; its class is of a package that may not be installed."""
    parts = (part for batch in batches for part in batch.split(max(1, min(BATCH, VALUES // batch[0].numel()))))
    inputs = ({"images": part.numpy()} for part in parts)
    return type("Reader", (base,), {"get_next": lambda _: next(inputs, None)})()


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the quantizer's warnings, which concern programs that call it, from the output."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
