"""Safetensors: the weights under the network's parameter names; ``load_student`` builds the network again."""

from pathlib import Path

from torch import nn

from stkd_lightning.inference.formats.base import Format, metadata
from stkd_lightning.inference.student import Student, build
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.models.feature_hooks import inner_network


class Safetensors(Format):
    """A file of weights, with ``metadata`` in its header."""

    name = "safetensors"
    file = "model.safetensors"

    def write(self, student: Student, path: Path) -> None:
        """Write the student's weights."""
        from safetensors.torch import save_file

        state = inner_network(student.network).state_dict()
        # Tensors that share memory, such as tied weights, are written separately.
        save_file(
            {k: v.clone().contiguous() for k, v in state.items()}, path, {"format": "pt", **metadata(student.facts)}
        )

    def read(self, path: Path, facts: StudentFacts) -> nn.Module:
        """Build the network of the facts, and load its weights."""
        return build(facts, path)

    def check_trusted(self, path: Path, facts: StudentFacts) -> None:
        """Refuse networks that are not part of this project."""
        check_trusted({"student": facts.network}, path)
