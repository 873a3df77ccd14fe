"""Each format is written, read back and run, for networks that are built in every way."""

import json
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from stkd_lightning import load_student
from stkd_lightning.inference.export_folder import format_of
from stkd_lightning.inference.formats import ONNX, Format, Safetensors, TorchExport, TorchScript
from stkd_lightning.inference.formats.base import need
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.inference.verify import largest_difference
from stkd_lightning.utilities.errors import InputError, RunError
from tests.inference.students import checkpoint

FORMATS = [ONNX(), Safetensors(), TorchExport(), TorchScript()]


def said(one: Format, path: Path) -> dict[str, str]:
    """Return what a file says of itself, by a reader that is not ours."""
    if one.name == "onnx":
        import onnx

        return {p.key: p.value for p in onnx.load(path).metadata_props}
    if one.name == "safetensors":
        with safe_open(path, "pt") as file:
            return file.metadata()
    with zipfile.ZipFile(path) as archive:
        (inside,) = [name for name in archive.namelist() if name.endswith("extra/student.json")]
        return json.loads(archive.read(inside))


@pytest.mark.parametrize("kind", ["adapted", "reusing", "spirit"])
@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.name)
def test_a_file_computes_what_the_checkpoint_does(one: Format, kind: str, tmp_path: Path) -> None:
    path, network = checkpoint(tmp_path / "run", kind)
    student = load_student(path)
    file = tmp_path / one.file
    one.write(student, file)
    again = one.read(file, student.facts)
    with torch.inference_mode():
        for count in (1, 3, 64):
            images = torch.randn(count, 3, 8, 8)
            torch.testing.assert_close(again(images), network(images), rtol=0, atol=1e-4)
    assert largest_difference(student, one, file, images) < 1e-4
    facts = said(one, file)
    assert json.loads(facts["class_names"]) == list("0123456789")
    assert json.loads(facts["mean"]) == [0.3, 0.4, 0.5]
    assert facts["image_size"] == "8"
    assert "RGB in [0, 1], minus mean" in facts["input"]
    assert json.loads(facts["about"])["teacher"]["name"] == "resnet20"
    assert type(format_of(one.name)) is type(one)


def test_what_a_trace_made_constant_is_found(tmp_path: Path) -> None:
    """A network whose result depends on the batch's size: TorchScript keeps the size that it was traced with."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.linear(images.mean((2, 3))) * float(len(images))

    path, _ = checkpoint(tmp_path / "run")
    student = load_student(path)
    student.network = Counting()
    one = TorchScript()
    one.write(student, tmp_path / one.file)
    with pytest.raises(RunError, match="format=torchscript: its logits differ from the checkpoint's by ") as caught:
        largest_difference(student, one, tmp_path / one.file, torch.randn(8, 3, 8, 8))
    assert not caught.value.passes


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    words = r"format=onnx: onnxruntime is not installed: pip install 'stkd-lightning\[export\]'"
    facts = StudentFacts({}, {}, ("a",), (0.0,) * 3, (1.0,) * 3, 8, {})
    with pytest.raises(InputError, match=words):
        need("onnx", ONNX.packages)
    with pytest.raises(InputError, match=words):
        ONNX().read(tmp_path / "model.onnx", facts)
