"""Export formats of a student, one file for each."""

from stkd_lightning.inference.formats.base import Format
from stkd_lightning.inference.formats.onnx import ONNX
from stkd_lightning.inference.formats.onnx_int8 import ONNXInt8
from stkd_lightning.inference.formats.quantized import QuantizedFormat
from stkd_lightning.inference.formats.safetensors import Safetensors
from stkd_lightning.inference.formats.torch_export import TorchExport
from stkd_lightning.inference.formats.torchscript import TorchScript

__all__ = ["ONNX", "Format", "ONNXInt8", "QuantizedFormat", "Safetensors", "TorchExport", "TorchScript"]
