"""Commands that are logged in at a W&B server that is dead, hangs, or takes the run in and is never heard of again."""

import csv
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger

from stkd_lightning.reporting.loggers import finish
from stkd_lightning.reporting.loggers.timeouts import server_fault
from stkd_lightning.reporting.loggers.wandb import wandb_logger
from tests.conftest import Command
from tests.reporting.runs import run

KEY = "0123456789abcdef0123456789abcdef01234567"
SHORT = ["experiment=quickstart", "trainer.max_epochs=1", "baseline=false", "loss=ce", "+trainer.limit_train_batches=3"]

FIGURES = {"last": {"accuracy": 0.5}, "selected": {"accuracy": 0.5}}
FINISHED = run("kd", 0, 0.5)
STUDENT = replace(FINISHED.summary.student, test=FIGURES)
FINISHED = replace(FINISHED, summary=replace(FINISHED.summary, student=STUDENT))


class Handler(BaseHTTPRequestHandler):
    """Answers with the server's status; with ``hangs`` it takes a run in and answers nothing more."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server: Any = self.server
        answer: dict[str, Any] = {}
        if b"UpsertBucket" in body:
            server.taken = True
            project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
            name = json.loads(body)["variables"]["name"]
            bucket = {"id": "b", "name": name, "displayName": name, "config": "{}", "historyLineCount": 0}
            answer = {"upsertBucket": {"bucket": bucket | {"project": project}, "inserted": True}}
        elif server.taken:
            server.ended.wait()
            return
        content = json.dumps({"data": answer}).encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[int], str]]:
    """Start servers that answer with a status; give their addresses."""
    running: list[Any] = []

    def start(status: int) -> str:
        server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.status, server.taken, server.ended = status, False, threading.Event()
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in running:
        server.ended.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def dead() -> str:
    """The address of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb.teardown()  # what an earlier test had it read of the environment stays with the process
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def check_whole(folder: Path) -> None:
    """The run is complete, and the key is nowhere in it."""
    assert json.loads((folder / "summary.json").read_text())["student"]["test"]["last"]["accuracy"] >= 0
    with (folder / "metrics.csv").open() as file:
        assert any(row["val/accuracy"] for row in csv.DictReader(file))
    assert list(folder.rglob("*.wandb"))
    assert not [path for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("kind", ["dead", "silent"])
def test_a_dead_server(kind: str, request: pytest.FixtureRequest, command: Command, tmp_path: Path) -> None:
    url = request.getfixturevalue(kind)
    done = command("train", *SHORT, "hydra.run.dir=run", timeout=80, WANDB_BASE_URL=url)
    assert done.returncode == 0, done.stderr
    (warning,) = [line for line in done.stdout.splitlines() if line.startswith("warning: W&B")]
    why = "Connection refused" if kind == "dead" else "no answer in 4 s"
    kept = re.fullmatch(
        rf"warning: W&B: {url}: {why}; this run is logged offline; upload it with: wandb sync (\S+)", warning
    )
    assert kept is not None, warning
    assert list((tmp_path / kept[1]).glob("*.wandb"))
    check_whole(tmp_path / "run")


@pytest.mark.usefixtures("online")
def test_a_server_that_hangs_once_it_has_the_run(serve: Callable[[int], str], command: Command, tmp_path: Path) -> None:
    done = command(
        "train", *SHORT, "hydra.run.dir=run", "+logger.wandb.settings.finish_timeout=2",
        timeout=80, WANDB_BASE_URL=serve(200),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (warning,) = [line for line in done.stdout.splitlines() if line.startswith("warning: W&B")]
    kept = re.fullmatch(r"warning: W&B: Timed out finishing run.; upload the rest with: wandb sync (\S+)", warning)
    assert kept is not None, warning
    assert list((tmp_path / kept[1]).glob("*.wandb"))
    check_whole(tmp_path / "run")


def test_what_answers(serve: Callable[[int], str], silent: str, dead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_fault(serve(200), b"{}") is None
    assert server_fault(serve(401), b"{}") is None  # somebody is there
    assert server_fault(serve(503), b"{}") == "HTTP 503"
    assert server_fault(dead) == "Connection refused"
    assert server_fault("http://127.0.0.1:port") is not None
    assert server_fault("nonsense") is not None
    start = time.monotonic()
    assert server_fault(silent, seconds=0.3) == "no answer in 0.3 s"
    answered = threading.Event()

    def look_up(*arguments: Any, **options: Any) -> Any:
        answered.wait(10)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert server_fault("http://example.org", seconds=0.3) == "no answer in 0.3 s"
    assert time.monotonic() - start < 5
    answered.set()
    assert server_fault("http://example.org") == "no such name"


def warnings_in(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]


@pytest.mark.usefixtures("online")
def test_a_refused_run_is_continued_offline_under_its_id(
    serve: Callable[[int], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", serve(401))
    run = wandb_logger(tmp_path, project="p", id="abcd1234", resume="must").experiment
    try:
        assert run.offline
        assert run.id == "abcd1234"
    finally:
        run.finish()
    (warning,) = warnings_in(capsys)
    assert "401" in warning
    assert warning.endswith(f"logged offline; upload it with: wandb sync {Path(run.dir).parent}")
    assert "WANDB_MODE" not in os.environ  # the next job of a sweep asks again


def test_a_folder_that_cannot_be_written_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    logger = wandb_logger(tmp_path / "file" / "below", project="p")
    logger.log_metrics({"a": 1.0})
    finish.finish([logger], FINISHED)
    assert warnings_in(capsys) == [
        f"warning: W&B: {tmp_path}/file/below: cannot be written (Not a directory); this run is not logged to W&B"
    ]


class Broken:
    """A run whose every call fails, as those of a process that was killed."""

    offline, disabled, dir = False, False, "/somewhere/files"

    def fail(self, *arguments: Any, **options: Any) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    log = finish = update = log_artifact = fail

    @property
    def config(self) -> "Broken":
        return self

    summary = config


def test_faults_of_a_run_are_one_warning_and_end_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = wandb_logger(tmp_path, project="p")
    assert isinstance(logger, WandbLogger)
    logger._experiment = Broken()  # type: ignore[assignment]
    logger.log_hyperparams({"a": 1})
    for step in range(3):
        logger.log_metrics({"a": 1.0}, step)
    logger.finalize("success")
    assert warnings_in(capsys) == ["warning: W&B: [Errno 104] Connection reset by peer; the run continues without it"]
    finish.finish([logger], FINISHED)
    assert warnings_in(capsys) == [
        "warning: W&B: [Errno 104] Connection reset by peer; upload the rest with: wandb sync /somewhere"
    ]


def test_the_configuration_is_logged_without_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = wandb_logger(tmp_path, project="p")
    logger.log_hyperparams({"url": "https://me:zq7@h/x", "api_key": "zq7", "seed": 0})
    assert dict(logger.experiment.config) == {"url": "https://***@h/x", "api_key": "***", "seed": 0}
    logger.experiment.finish()
