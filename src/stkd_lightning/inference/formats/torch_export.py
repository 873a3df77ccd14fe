"""``torch.export``: a graph of torch's operators with its weights, for torch, ExecuTorch and AOTInductor."""

import json
from pathlib import Path

import torch
from torch import nn

from stkd_lightning.inference.formats.base import INSIDE, Format, dynamic_dimensions, example, metadata
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.utilities.errors import InputError, reason


class TorchExport(Format):
    """A ``.pt2`` archive; ``metadata`` as its extra file ``student.json``."""

    name = "torch_export"
    file = "model.pt2"
    holds_programs = True
    usage = 'network = torch.export.load("model.pt2").module()\nlogits = network(images)  # {input}'

    def write(self, student: Student, path: Path) -> None:
        """Write the student as a ``torch.export`` archive."""
        # Not named dimensions, whose smallest size would have to be known: that of a map of more than one position.
        shapes = dict.fromkeys(dynamic_dimensions(student.facts), torch.export.Dim.DYNAMIC)
        program = torch.export.export(student, (example(student.facts),), dynamic_shapes=(shapes,))
        torch.export.save(program, path, extra_files={INSIDE: json.dumps(metadata(student.facts))})

    def read(self, path: Path, facts: StudentFacts) -> nn.Module:
        """Load the archive; it may contain pickles, therefore it needs trust."""
        try:
            return torch.export.load(path).module()
        except Exception as error:  # torch raises many types for a damaged file
            raise InputError(f"export {path}: damaged or not of torch.export ({reason(error)})") from error
