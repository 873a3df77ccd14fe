"""TorchScript, by tracing: for C++ programs with libtorch, and for old versions of torch."""

import json
import warnings
from pathlib import Path

import torch
from torch import nn

from stkd_lightning.inference.formats.base import INSIDE, Format, example, metadata
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.utilities.errors import InputError, reason


class TorchScript(Format):
    """A ``.pt`` archive; ``metadata`` as its extra file ``student.json``."""

    name = "torchscript"
    file = "model.pt"
    holds_programs = True
    usage = 'network = torch.jit.load("model.pt")\nlogits = network(images)  # {input}'

    def write(self, student: Student, path: Path) -> None:
        """Trace the student, compare the trace with the network, and write it."""
        with warnings.catch_warnings():
            # torch recommends torch.export; constants that a wrong trace contains are found by the comparison.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(student, example(student.facts), check_trace=True)
            torch.jit.save(traced, str(path), _extra_files={INSIDE: json.dumps(metadata(student.facts))})

    def read(self, path: Path, facts: StudentFacts) -> nn.Module:
        """Load the archive to the CPU; it can contain any program, therefore it needs trust."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.jit.load(str(path), map_location="cpu")
        except Exception as error:  # torch raises many types for a damaged file
            raise InputError(f"export {path}: damaged or not TorchScript ({reason(error)})") from error
