"""Hundreds of mutated runs through the commands that read runs of others: no traceback, and none costs much."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import picture
from tests.faults.limited import GROWTH, SECONDS, TRACEBACK
from tests.faults.run_mutations import LOADED, REPORTED, mutated
from tests.fork_server import ForkServer

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks and /proc")]
ROOT = Path(__file__).parents[2]
TOGETHER = 10  # runs of one report


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer) -> Path:
    """The folder of a finished run of two epochs."""
    folder = tmp_path_factory.mktemp("finished")
    options = ["experiment=quickstart", "trainer.max_epochs=2", "teacher.max_epochs=1", "teacher.min_accuracy=0",
               "baseline=false", "logger=csv", "hydra.run.dir=run"]  # fmt: skip
    done = fork_server.run("stkd_lightning.train", options, cwd=folder, environment=dict(os.environ), timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def outcomes(cases: list[dict[str, Any]], folder: Path, fork_server: ForkServer) -> list[dict[str, Any]]:
    """Run the cases in children of one process."""
    (folder / "cases.json").write_text(json.dumps(cases))
    arguments = [str(folder / "cases.json"), str(folder / "results.json")]
    done = fork_server.run("tests.faults.limited", arguments, cwd=ROOT, environment=dict(os.environ), timeout=3000)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results.json").read_text())


def check(what: str, outcome: dict[str, Any]) -> list[str]:
    """Return the faults of one case."""
    words = f"{what}\n{outcome['output']}"
    faults = {
        "a traceback": outcome["code"] == TRACEBACK or "Traceback" in outcome["output"],
        f"ended by {outcome['code']}": outcome["code"] not in (0, 1, 2, TRACEBACK),
        f"{outcome['seconds']:.1f} s": outcome["seconds"] > SECONDS,
        f"{outcome['growth'] >> 20} MiB": outcome["growth"] > GROWTH,
    }
    return [f"{name}: {words}" for name, found in faults.items() if found]


def test_reports_of_mutated_runs(finished: Path, fork_server: ForkServer, tmp_path: Path) -> None:
    canary, cases, told = tmp_path / "executed", [], []
    for first in range(0, 500, TOGETHER):
        runs = tmp_path / "runs" / str(first)
        told.append("\n".join(mutated(finished, runs / str(seed), seed, canary, REPORTED)
                              for seed in range(first, first + TOGETHER)))  # fmt: skip
        whole = first % 100 == 0  # also what a report measures and makes
        values = {"runs": str(runs), "output": str(tmp_path / "page"), "latency": whole, "complete": whole}
        cases.append({"command": "report", "values": values})
    results = outcomes(cases, tmp_path, fork_server)
    faults = [fault for what, outcome in zip(told, results, strict=True) for fault in check(what, outcome)]
    assert not faults, f"{len(faults)} of {len(cases)}\n" + "\n\n".join(faults[:10])
    assert sum(outcome["code"] == 0 for outcome in results) > len(cases) // 2
    assert not canary.exists()


def test_loading_mutated_runs(finished: Path, fork_server: ForkServer, tmp_path: Path) -> None:
    canary, cases, told = tmp_path / "executed", [], []
    picture(tmp_path / "photos" / "1.png")
    for seed in range(200):
        run = tmp_path / "runs" / str(seed)
        told.append(mutated(finished, run, 1000 + seed, canary, LOADED))
        command = "evaluate" if seed % 10 == 9 else ("predict", "export")[seed % 2]
        more: dict[str, Any] = {
            "predict": {"images": str(tmp_path / "photos"), "output": str(tmp_path / "all.csv")},
            "export": {"output": str(tmp_path / "exported" / str(seed))},
            "evaluate": {"trainer.accelerator": "cpu"},
        }[command]
        cases.append({"command": command, "values": {"checkpoint": str(run), **more}})
        told[-1] = f"{command} {told[-1]}"
    results = outcomes(cases, tmp_path, fork_server)
    faults = [fault for what, outcome in zip(told, results, strict=True) for fault in check(what, outcome)]
    assert not faults, f"{len(faults)} of {len(cases)}\n" + "\n\n".join(faults[:10])
    assert not canary.exists()
