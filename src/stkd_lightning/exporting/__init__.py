"""A student as a file for use elsewhere: one file here for each format, a model card, and the way to a hub."""

from stkd_lightning.exporting.format import Format
from stkd_lightning.exporting.onnx import ONNX
from stkd_lightning.exporting.safetensors import Safetensors
from stkd_lightning.exporting.torch_export import TorchExport
from stkd_lightning.exporting.torchscript import TorchScript

__all__ = ["ONNX", "Format", "Safetensors", "TorchExport", "TorchScript"]
