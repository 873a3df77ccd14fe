"""A student leaves the project as a user has it leave: trained, exported in every format, uploaded, loaded again."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stkd_lightning import load_student
from stkd_lightning.commands.config.checks import check
from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.export import export
from stkd_lightning.data import CIFAR100DataModule, DigitsDataModule
from stkd_lightning.utilities.errors import InputError
from tests.conftest import Command
from tests.inference.students import checkpoint

TOKEN = "hf_zq7secret0123456789"


class Hub(BaseHTTPRequestHandler):
    """Takes repositories and commits, as the Hugging Face hub does, from those who show the token."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        self.answer(200 if known else 401, {})

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        address = f"http://{self.headers['Host']}/me/digits"
        if self.path == "/api/repos/create":
            server.made = json.loads(body)
            return self.answer(200, {"url": address, "name": "me/digits", "id": "1"})
        if "/preupload/" in self.path:
            files = [{"path": f["path"], "uploadMode": "regular"} for f in json.loads(body)["files"]]
            return self.answer(200, {"files": [{**f, "shouldIgnore": False} for f in files]})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self.answer(200, {"commitUrl": f"{address}/commit/1", "commitOid": "1" * 40, "success": True})
        return self.answer(200, {"errors": [], "warnings": []})

    def answer(self, status: int, content: Any) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Any]:
    """A hub on this machine."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    server.files, server.made = {}, None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def exported(*overrides: str) -> None:
    """Run the command in this process."""
    with composing():
        config = composed("export", list(overrides))
    export(config)


def test_a_trained_student_in_every_format(command: Command, hub: Any, tmp_path: Path, cache: Path) -> None:
    done = command("train", "experiment=quickstart", "trainer.max_epochs=1", "teacher.max_epochs=2", "logger=csv",
                   "teacher.min_accuracy=0", "hydra.run.dir=run")  # fmt: skip
    assert done.returncode == 0, done.stderr
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}", "HF_HOME": str(tmp_path / "hf")}

    done = command("export", "checkpoint=run", "format=onnx", "output=onnx", "push_to_hub=me/digits",
                   HF_TOKEN="hf_zq7secret_of_another", **environment)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(
        f"error: push_to_hub=me/digits: {environment['HF_ENDPOINT']} refused it (401); log in"
    )
    assert done.stderr.endswith("the export is in onnx\n")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "onnx",
        "compared with the checkpoint on 64 test images of digits",
    ]

    done = command("export", "checkpoint=run", "output=safetensors", "push_to_hub=me/digits", "private=true",
                   HF_TOKEN=TOKEN, **environment)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"uploaded to {environment['HF_ENDPOINT']}/me/digits" in done.stdout
    assert hub.made["name"] == "digits"
    assert hub.made.get("private") or hub.made["visibility"] == "private"
    assert set(hub.files) == {"README.md", "model.safetensors", "student.json"}
    assert all(raw == (tmp_path / "safetensors" / name).read_bytes() for name, raw in hub.files.items())

    said = [done.stdout, done.stderr, *(p.read_text("latin-1") for p in tmp_path.rglob("*") if p.is_file())]
    assert not any("zq7secret" in text for text in said)

    for name in ("torch_export", "torchscript"):
        exported(f"checkpoint={tmp_path / 'run'}", f"format={name}", f"output={tmp_path / name}")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    data = DigitsDataModule(cache_dir=cache)
    (batch, *_) = data.test_dataloader()
    expected = load_student(tmp_path / "run")(batch.images)
    for name in ("onnx", "safetensors", "torch_export", "torchscript"):
        student = load_student(tmp_path / name, trust=True)
        torch.testing.assert_close(student(batch.images), expected, rtol=0, atol=1e-4)
        assert student.about["test_images"] == 450
        for role, own in (("student", "student"), ("teacher", "teacher"), ("alone", "baseline")):
            accuracy = summary[own]["test"]["last" if role == "teacher" else "selected"]["accuracy"]
            assert student.about[role]["test"]["accuracy"] == pytest.approx(accuracy)
    session = import_module("onnxruntime").InferenceSession(tmp_path / "onnx" / "model.onnx")
    for count in (1, 64):
        (logits,) = session.run(["logits"], {"images": batch.images[:count].numpy()})
        np.testing.assert_allclose(logits, expected[:count], rtol=0, atol=1e-4)

    exported(f"checkpoint={tmp_path / 'safetensors'}", "format=onnx", f"output={tmp_path / 'onnx'}")  # replaces it
    again = json.loads((tmp_path / "onnx" / "student.json").read_text())
    assert again["comparison"]["images"] == "64 random images"
    assert again["student"]["about"]["student"]["test"] == student.about["student"]["test"]


@pytest.mark.parametrize("name", ["onnx", "safetensors", "torch_export", "torchscript"])
def test_on_cifar(name: str, real_data: Path, tmp_path: Path, cache: Path) -> None:
    data = CIFAR100DataModule(real_data, cache_dir=cache)
    node = {"_target_": "stkd_lightning.data.CIFAR100DataModule", "data_dir": str(real_data), "download": True}
    path, network = checkpoint(tmp_path / "run", size=32, dataset=node, mean=list(data.mean), std=list(data.std))
    exported(f"checkpoint={path}", f"format={name}", f"output={tmp_path / name}", f"cache_dir={cache}")
    said = json.loads((tmp_path / name / "student.json").read_text())
    assert said["comparison"]["images"] == "64 test images of cifar100"
    assert said["comparison"]["largest_difference"] < 1e-4
    images = next(iter(data.test_dataloader())).images
    with torch.inference_mode():
        found = load_student(tmp_path / name, trust=True)(images)
        torch.testing.assert_close(found, network(images), rtol=0, atol=1e-4)


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run: Callable[..., None] = lambda *o: exported(f"checkpoint={tmp_path / 'run'}", *o)  # noqa: E731
    path, _ = checkpoint(tmp_path / "run", dataset={"_target_": "numpy.save", "file": "pwned"})
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with pytest.raises(InputError, match="contains best.ckpt, which is not part of an export"):
        run(f"output={path.parent}")
    with pytest.raises(InputError, match="push_to_hub=me/it: no token for .*; log in with hf auth login"):
        run(f"output={tmp_path / 'out'}", "push_to_hub=me/it")
    with pytest.raises(InputError, match="push_to_hub=me/a..b: "):
        run(f"output={tmp_path / 'out'}", "push_to_hub=me/a..b")
    with pytest.raises(InputError, match="format 'onx': unknown; did you mean onnx?"):
        run(f"output={tmp_path / 'out'}", "format=onx")
    assert not (tmp_path / "out").exists()
    for output, words in ((".", "is the current folder or above it"), (str(path), "is a file")):
        with composing():
            config = composed("export", [f"checkpoint={path}", f"output={output}"])
        with pytest.raises(InputError, match=words):
            check(config)
    run(f"output={tmp_path / 'out'}")
    assert "the data cannot be used (checkpoint" in capsys.readouterr().out.replace("\n", " ")
    assert not list(tmp_path.glob("pwned*"))
