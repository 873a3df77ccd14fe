"""A trained student as an int8 file: its losses and gains are measured, and a file that loses much is refused."""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from huggingface_hub import ModelCard

from stkd_lightning import load_student
from stkd_lightning.commands.config.checks import check
from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.export import export
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.inference.formats import ONNXInt8
from stkd_lightning.utilities.errors import InputError
from tests.conftest import Command
from tests.fork_server import ForkServer
from tests.inference.students import checkpoint


@pytest.fixture(scope="module")
def trained(cache: Path, fork_server: ForkServer) -> Path:
    """A folder with a run whose student is far above chance, ``run``, and its exports; all workers share it."""
    folder = cache.parent / "int8_run"
    options = ["experiment=quickstart", "loss=ce", "baseline=false", "trainer.max_epochs=3", "logger=csv",
               "diagnostics=false", "hydra.run.dir=run"]  # fmt: skip
    commands = {
        "train": options,
        "export": ["checkpoint=run", "format=onnx_int8", "output=int8", "max_drop=3"],
    }
    with FileLock(f"{folder}.lock"):
        if not (folder / "printed").is_file():
            folder.mkdir(exist_ok=True)
            for name, arguments in commands.items():
                done = fork_server.run(
                    f"stkd_lightning.{name}", arguments, cwd=folder, environment=dict(os.environ), timeout=300
                )
                assert done.returncode == 0, done.stderr
            assert done.stderr == ""
            exported(f"checkpoint={folder / 'run'}", "format=onnx", f"output={folder / 'onnx'}")
            (folder / "printed").write_text(done.stdout)
    return folder


def exported(*overrides: str) -> None:
    """Run the command in this process."""
    with composing():
        config = composed("export", list(overrides))
        check(config)
    export(config)


def correct(file: Path) -> float:
    """Return the accuracy of a file on the test images, counted one by one by onnxruntime alone."""
    session = import_module("onnxruntime").InferenceSession(file)
    data = DigitsDataModule()
    split, found = data.arrays.splits["test"], 0
    for i in range(split.samples):
        pixels = split.inputs[i : i + 1].numpy().astype(np.float64) / 255
        images = (pixels - np.reshape(data.mean, (1, 3, 1, 1))) / np.reshape(data.std, (1, 3, 1, 1))
        (logits,) = session.run(["logits"], {"images": images.astype(np.float32)})
        found += int(logits[0].argmax() == int(split.labels[i]))
    return found / split.samples


def constants(file: Path) -> dict[str, Any]:
    """Return the tensors of a file by name."""
    onnx = import_module("onnx")
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}


def test_int8_file_holds_8_bit_weights(trained: Path) -> None:
    file, float32 = trained / "int8" / "model.onnx", trained / "onnx" / "model.onnx"
    assert {path.name for path in (trained / "int8").iterdir()} == {"README.md", "model.onnx", "student.json"}
    assert file.stat().st_size < float32.stat().st_size / 2
    model = import_module("onnx").load(file)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    weights = [tensor for tensor in constants(file).values() if tensor.ndim > 1]
    assert len(weights) == 10  # of resnet8: 9 convolutions and the classifier
    assert {tensor.dtype for tensor in weights} == {np.dtype("int8")}
    told = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(told["class_names"]) == list("0123456789")
    assert told["output"] == "logits (batch, classes), before softmax"


def test_int8_file_is_measured_beside_its_student(trained: Path) -> None:
    file, float32 = trained / "int8" / "model.onnx", trained / "onnx" / "model.onnx"
    found = json.loads((trained / "int8" / "student.json").read_text())["quantization"]
    summary = json.loads((trained / "run" / "summary.json").read_text())
    accuracy = summary["student"]["test"]["selected"]["accuracy"]
    assert accuracy > 0.5
    assert found["float32"]["accuracy"] == pytest.approx(accuracy, abs=0.003)  # rounding may turn an image
    assert found["float32"]["accuracy"] == pytest.approx(correct(float32), abs=1e-6)
    assert found["quantized"]["accuracy"] == pytest.approx(correct(file), abs=1e-6)
    assert found["drop"] == pytest.approx(100 * (found["float32"]["accuracy"] - found["quantized"]["accuracy"]))
    assert found["bytes"] == {"float32": float32.stat().st_size, "quantized": file.stat().st_size}
    assert set(found["milliseconds"]) == {"1", "64"}
    assert all(time > 0 for times in found["milliseconds"].values() for time in times.values())

    before, after = (f"{100 * found[name]['accuracy']:.2f}" for name in ("float32", "quantized"))
    printed, card = (trained / "printed").read_text(), (trained / "int8" / "README.md").read_text()
    assert f"accuracy on 450 test images of digits: {before} % in float32, {after} % quantized" in printed
    assert "with the ratio to float32 ONNX: batch 1 " in printed
    assert ModelCard(card).data.eval_results[0].metric_value == pytest.approx(found["quantized"]["accuracy"], abs=1e-6)
    for words in (f"| this student, in float32 | 78,042 | 1.6 | {before} |", "| float32 ONNX | ", "computes in 8 bits",
                  f"| this file, quantized | 78,042 | 1.6 | {after} |"):  # fmt: skip
        assert words in card


def test_int8_file_is_loaded_as_a_student(trained: Path) -> None:
    student = load_student(trained / "int8")
    (batch, *_) = DigitsDataModule().test_dataloader()
    session = import_module("onnxruntime").InferenceSession(trained / "int8" / "model.onnx")
    (logits,) = session.run(None, {"images": batch.images.numpy()})
    np.testing.assert_array_equal(student(batch.images), logits)
    assert student.facts == load_student(trained / "onnx").facts


def test_int8_file_is_calibrated_on_training_images(trained: Path, tmp_path: Path) -> None:
    """The range of the logits in the file is that of the student's logits of the chosen images, on every export."""
    assert "calibrated on 512 training images of digits" in (trained / "printed").read_text()
    file, student, data = trained / "int8" / "model.onnx", load_student(trained / "run"), DigitsDataModule()
    (last,) = [node for node in import_module("onnx").load(file).graph.node if "logits" in node.output]
    scale, zero = (constants(file)[name] for name in last.input[1:])
    chosen, test = (
        torch.cat([student(batch.images) for batch in loader])
        for loader in (data.calibration_dataloader(512), data.test_dataloader())
    )
    assert float(scale) == pytest.approx(float(chosen.max() - chosen.min()) / 255, rel=1e-4)
    assert int(zero) == round(-float(chosen.min()) / float(scale))
    assert float(scale) != pytest.approx(float(test.max() - test.min()) / 255, rel=1e-3)
    batches = (batch.images for batch in data.calibration_dataloader(512))
    ONNXInt8().quantize(trained / "onnx" / "model.onnx", tmp_path / "again.onnx", batches)
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()


def damaged(run: Path, path: Path) -> Path:
    """Write a student of equal function, one channel of whose activations is so large that 8 bits hide the others."""
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    state = content["state_dict"]
    for name in [name for name in state if name.endswith(".bn1.weight") and "layer" in name]:
        block = name.removesuffix("bn1.weight")
        for part in ("bn1.weight", "bn1.bias"):
            state[block + part][0] *= 1e4
        state[f"{block}conv2.weight"][:, 0] /= 1e4
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    return path


def test_int8_file_that_loses_much_is_refused(command: Command, trained: Path, tmp_path: Path) -> None:
    path = damaged(trained / "run", tmp_path / "damaged" / "checkpoints" / "best.ckpt")
    exported(f"checkpoint={path}", f"output={tmp_path / 'out'}")
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    done = command("export", f"checkpoint={path}", "format=onnx_int8", "output=out")
    assert done.returncode == 1, done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: format=onnx_int8: accuracy on 450 test images of digits: ")
    assert "above max_drop=1; the exported file was removed" in done.stderr
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["damaged", "out"]


def test_int8_needs_the_training_images(command: Command, tmp_path: Path) -> None:
    node = {"_target_": "stkd_lightning.data.CIFAR10DataModule", "data_dir": str(tmp_path / "gone")}
    checkpoint(tmp_path / "run", size=32, dataset=node)
    done = command("export", "checkpoint=run", "format=onnx_int8", "output=out")
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(
        "error: format=onnx_int8: needs the run's training images; data_dir=FOLDER names their folder (dataset "
    )
    assert not (tmp_path / "out").exists()
    exported(f"checkpoint={tmp_path / 'run'}", f"output={tmp_path / 'weights'}")
    with pytest.raises(InputError, match=r"name the run or its checkpoint \(an export does not contain"):
        exported(f"checkpoint={tmp_path / 'weights'}", "format=onnx_int8", f"output={tmp_path / 'out'}")
    checkpoint(tmp_path / "other", class_names=[*"012345678", "ten"])
    with pytest.raises(InputError, match="trained on other classes: 9, ten"):
        exported(f"checkpoint={tmp_path / 'other'}", "format=onnx_int8", f"output={tmp_path / 'out'}")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["max_drop=-1"], "max_drop=-1: must be at least 0"),
        (["max_drop=much"], "max_drop='much': must be a number of at least 0"),
        (["format.calibration_images=0"], "format.calibration_images=0: must be a whole number of at least 1"),
        (["format.reduce_range=7"], "format.reduce_range=7: must be true or false"),
    ],
)
def test_int8_options_have_ranges(options: list[str], words: str, tmp_path: Path) -> None:
    path, _ = checkpoint(tmp_path / "run")
    with pytest.raises(InputError, match=words):
        exported(f"checkpoint={path}", "format=onnx_int8", f"output={tmp_path / 'out'}", *options)


def test_int8_without_onnxruntime_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = checkpoint(tmp_path / "run")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnx_int8: onnxruntime is not installed: pip install 'stkd-lightning\[exp"):
        exported(f"checkpoint={path}", "format=onnx_int8", f"output={tmp_path / 'out'}")
