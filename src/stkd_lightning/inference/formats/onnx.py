"""ONNX, written by torch's exporter and run by onnxruntime."""

import logging
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from stkd_lightning.inference.formats.base import Format, dynamic_dimensions, example, metadata, need
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.utilities.errors import InputError, reason


class ONNX(Format):
    """A single file with the weights; input ``images``, output ``logits``; ``metadata`` in its ``metadata_props``."""

    name = "onnx"
    file = "model.onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")
    usage = (
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        '(logits,) = session.run(["logits"], {"images": images})  # {input}'
    )

    def write(self, student: Student, path: Path) -> None:
        """Write the student as ONNX."""
        for library in ("onnxscript", "onnx_ir"):  # they log every simplified node
            logging.getLogger(library).setLevel(logging.WARNING)
        program = torch.onnx.export(
            student,
            (example(student.facts),),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({i: torch.export.Dim(name) for i, name in dynamic_dimensions(student.facts).items()},),
        )
        if program is None:
            raise RuntimeError("torch.onnx.export returned no program")
        program.model.metadata_props.update(metadata(student.facts))
        program.save(path, external_data=False)

    def read(self, path: Path, facts: StudentFacts) -> nn.Module:
        """Return a session of onnxruntime, without custom operators."""
        return Session(path)


class Session(nn.Module):
    """An ONNX file as a module, on the CPU.

    Args:
        path: of the file.
        threads: number of threads; ``None``: as many as torch.

    Raises:
        InputError: onnxruntime is not installed or cannot read the file.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        super().__init__()
        need("onnx", ["onnxruntime"])
        onnxruntime = import_module("onnxruntime")

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads() if threads is None else threads
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has its own exception types
            raise InputError(f"export {path}: damaged or not an ONNX file ({reason(error)})") from error

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, K, ...)`` of images ``(B, 3, H, W)``."""
        (logits,) = self.session.run(None, {"images": images.detach().cpu().contiguous().numpy()})
        return torch.from_numpy(logits)
