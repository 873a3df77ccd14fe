"""Both calls of the queue, whole, in miniature on a CPU: packed, run, unpacked, and taken up again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu import carry, packing
from gpu.places import Places
from gpu.sizes import MINIATURE

from tests.benchmarks.test_gpu_carry import write_official

GPU = Path(__file__).parents[2] / "benchmarks" / "gpu"


class Machines:
    """The project's machine and the GPU machine, which share only what is carried."""

    def __init__(self, folder: Path) -> None:
        self.home, self.away, self.wheels, self.out = (folder / name for name in ("home", "away", "wheels", "out"))
        self.home.mkdir()
        self.wheels.mkdir()
        write_official(folder / "data")
        self.environment = {**os.environ, "STKD_DATA": str(folder / "data")}

    def pack(self, call: int) -> None:
        packing.pack(call, MINIATURE, Places(self.home), self.wheels)

    def unpack(self) -> None:
        packing.unpack(self.out, Places(self.home))

    def command(self, *arguments: str) -> str:
        return self._command("pack.py", self.home, [*arguments, "--wheels", str(self.wheels)], self.environment)

    def carry(self, call: int) -> None:
        carried = Places(self.home).carried / str(call)
        shutil.copytree(carried, Places(self.away).carried / str(call), dirs_exist_ok=True)

    def run(self, *stages: str) -> str:
        shutil.rmtree(self.out, ignore_errors=True)
        arguments = ["--budget", "550", "--out", str(self.out), "--only", *stages]
        environment = {**self.environment, "STKD_DATA": str(self.home / "nowhere")}
        return self._command("run.py", self.away, arguments, environment)

    def _command(self, name: str, root: Path, arguments: list[str], environment: dict[str, str]) -> str:
        command = [sys.executable, str(GPU / name), "--miniature", "--root", str(root), *arguments]
        done = subprocess.run(command, env=environment, cwd=root.parent, capture_output=True, text=True, timeout=560)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.mark.slow
def test_both_calls_run_whole_in_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = Machines(tmp_path)
    monkeypatch.setenv("STKD_DATA", machines.environment["STKD_DATA"])
    assert ".gpu/1: " in machines.command("--call", "1")
    machines.carry(1)
    machines.run("check", "speed")
    assert "benchmarks/results/gpu/check/resume.json" in machines.command("--unpack", str(machines.out))
    results = Places(machines.home).results / "gpu"
    records = {path.stem: json.loads(path.read_text()) for path in results.rglob("*.json")}
    assert {"reference", "compiled", "resume", "replay", "accumulation", "half", "ranks"} <= records.keys()
    assert {"commit", "hardware", "versions"} <= records["resume"].keys()
    assert records["resume"]["result"]["parts"]["float32"] == {"exit_code": 143, "differences": [], "passed": True}
    assert records["half"]["result"]["parts"]["eager"] == "not on this device"
    assert records["resnet14_resnet8_8_one_graph"]["result"] == {"one graph": "not on this device"}
    assert records["resnet14_resnet8_8_ours_replay"]["result"]["ratio"] > 0
    assert len(records["resnet14_resnet8_8_together_2"]["result"]["each"]) == 2

    machines.pack(2)
    machines.carry(2)
    machines.run("teachers")
    cut_first_run(machines)
    machines.unpack()
    home, away = Places(machines.home), Places(machines.away)
    teacher = json.loads((home.teachers / "resnet8.json").read_text())
    assert teacher["recipe"]["name"] == "1 epoch"
    assert abs(teacher["test_accuracy"] - teacher["test_accuracy_before_rounding"]) < 0.05
    assert (home.teachers / "resnet8.safetensors").stat().st_size < 300_000

    shutil.rmtree(machines.away)  # another allotment, on another machine
    for call in (1, 2):
        machines.pack(call)
        machines.carry(call)
    assert not list(home.teachers.glob("*.safetensors"))  # set aside: those that are read travel in the folder
    shutil.copytree(machines.home / "benchmarks", machines.away / "benchmarks")  # the tree
    told = machines.run("check", "speed", "teachers", "evidence")
    done = [sorted(line.removeprefix("done: ").split(", ")) for line in told.splitlines() if line.startswith("done: ")]
    assert ["evidence/resnet8_resnet8_kd-0", "evidence/resnet8_resnet8_stkd-0"] in done, told  # they end in any order
    (log,) = (away.runs / "resnet8_resnet8_kd-0").glob("*.log")
    assert "student: resumed from" in log.read_text()
    machines.unpack()
    rows = home.results / "accuracy" / "miniature" / "resnet8_resnet8"
    assert sorted(path.name for path in rows.iterdir()) == ["kd-0.json", "stkd-0.json"]
    assert (home.teachers / "resnet8.safetensors").is_file()


def cut_first_run(machines: Machines) -> None:
    """Begin the first run of the evidence, cut it after its first checkpoint, and write what goes back."""
    away = Places(machines.away)
    command = [sys.executable, str(GPU / "run.py"), "--miniature", "--root", str(machines.away), "--budget", "500"]
    title = "evidence/resnet8_resnet8_kd-0"
    run = subprocess.Popen([*command, "--item", title], cwd=machines.away, env=machines.environment)
    while run.poll() is None and not list(away.runs.rglob("last.ckpt")):
        time.sleep(0.01)
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 143
    assert carry.deliver(MINIATURE, away, {}, machines.out, weights=True) == []
