"""ONNX, by torch's exporter on ``torch.export``; run again by onnxruntime."""

import logging
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from stkd_lightning.inference.formats.base import Format, example, metadata, need
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.utilities.errors import InputError, reason


class ONNX(Format):
    """One file, weights included; input ``images``, output ``logits``; ``metadata`` in its ``metadata_props``."""

    name = "onnx"
    file = "model.onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")
    usage = (
        'session = onnxruntime.InferenceSession("model.onnx")\n'
        '(logits,) = session.run(["logits"], {"images": images})  # (B, 3, S, S) float32, normalized as below'
    )

    def write(self, student: Student, path: Path) -> None:
        """Write it."""
        for library in ("onnxscript", "onnx_ir"):  # which tell of each node that they simplify
            logging.getLogger(library).setLevel(logging.WARNING)
        program = torch.onnx.export(
            student,
            (example(student.facts),),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        if program is None:
            raise RuntimeError("torch.onnx.export gave no program")
        program.model.metadata_props.update(metadata(student.facts))
        program.save(path, external_data=False)

    def read(self, path: Path, facts: StudentFacts) -> nn.Module:
        """Return a session; it knows no more operators than onnxruntime's own."""
        return Session(path)


class Session(nn.Module):
    """An ONNX file as a module, on the CPU.

    Args:
        path: of the file.
        threads: that it computes on; ``None``: as many as torch.

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
        except Exception as error:  # onnxruntime raises types of its own
            raise InputError(f"export {path}: damaged or not an ONNX file ({reason(error)})") from error

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, K)`` of images ``(B, 3, S, S)``."""
        (logits,) = self.session.run(None, {"images": images.detach().cpu().contiguous().numpy()})
        return torch.from_numpy(logits)
