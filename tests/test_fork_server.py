"""A forked process is, to its caller, the process that ``python -m`` starts."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.fork_server import ForkServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fork server needs Linux")

Process = subprocess.CompletedProcess[str]
Both = Callable[..., tuple[Process, Process]]


def fresh(module: str, *arguments: str, cwd: Path, environment: Mapping[str, str]) -> Process:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture
def both(fork_server: ForkServer, tmp_path: Path) -> Both:
    """Run a program forked and in a fresh interpreter."""

    def run(program: str, *arguments: str, **environment: str) -> tuple[Process, Process]:
        (tmp_path / "program.py").write_text(program)
        whole = {**os.environ, **environment}
        forked = fork_server.run("program", arguments, cwd=tmp_path, environment=whole, timeout=60)
        return forked, fresh("program", *arguments, cwd=tmp_path, environment=whole)

    return run


ENDS = {
    "falls off its end": ("print('out')", 0),
    "exits with None": ("import sys; sys.exit()", 0),
    "exits with 2": ("import sys; sys.exit(2)", 2),
    "exits with -1": ("import sys; sys.exit(-1)", 255),
    "exits with words": ("import sys; sys.exit('no such thing')", 1),
    "leaves with os._exit": ("import os; os._exit(7)", 7),
    "is killed": ("import os; os.kill(os.getpid(), 9)", -9),
    "is terminated": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15),
    "ends at exit": ("import atexit; atexit.register(print, 'at exit'); print('before')", 0),
    "waits for threads": ("import threading, time; threading.Timer(0.1, lambda: print('thread')).start()", 0),
}


@pytest.mark.parametrize(("program", "code"), ENDS.values(), ids=ENDS)
def test_end_is_that_of_an_interpreter(program: str, code: int, both: Both) -> None:
    forked, expected = both(program)
    assert forked.returncode == expected.returncode == code
    assert (forked.stdout, forked.stderr) == (expected.stdout, expected.stderr)


def test_exception_leaves_its_traceback(both: Both) -> None:
    forked, expected = both(
        "def inner():\n    raise ValueError('bad')\n\ntry:\n    inner()\nfinally:\n    print('out')"
    )
    assert forked.returncode == expected.returncode == 1
    assert forked.stdout == expected.stdout == "out\n"
    last = "in inner\n    raise ValueError('bad')\nValueError: bad\n"
    assert forked.stderr.startswith("Traceback (most recent call last):\n")
    assert forked.stderr.endswith(last)
    assert expected.stderr.endswith(last)


def test_interrupt_kills_by_its_signal(both: Both) -> None:
    forked, expected = both("raise KeyboardInterrupt")
    assert forked.returncode == expected.returncode == -2
    assert forked.stderr.endswith("KeyboardInterrupt\n")


def test_output_that_nobody_reads_is_120(both: Both) -> None:
    program = "import os, sys\nreader, writer = os.pipe()\nos.close(reader)\nsys.stdout = open(writer, 'w')\nprint(1)"
    forked, expected = both(program)
    assert forked.returncode == expected.returncode == 120
    assert forked.stderr == expected.stderr


STATE = """
import json, os, signal, sys, threading, torch
signals = [line for line in open("/proc/self/status") if line.startswith("Sig")]
print(json.dumps({
    "arguments": sys.argv, "folder": os.getcwd(), "path": sys.path, "environment": dict(os.environ),
    "name": __name__, "module": __spec__.name, "main": sys.modules["__main__"].__dict__ is globals(),
    "input": sys.stdin.read(), "signals": signals[1:], "interrupt": str(signal.getsignal(signal.SIGINT))[:40],
    "descriptors": sorted(os.listdir("/proc/self/fd")), "os threads": len(os.listdir("/proc/self/task")),
    "torch threads": torch.get_num_threads(), "encoding": sys.stdout.encoding,
    "terminal": sys.stdout.isatty(), "group": os.getpgrp(), "session": os.getsid(0),
    "standard": [sys.stdout.errors, sys.stderr.errors, sys.stdout.line_buffering, sys.stderr.line_buffering],
    "thread": threading.current_thread().name,
}))
"""


def test_process_state_is_that_of_an_interpreter(both: Both) -> None:
    forked, expected = (json.loads(done.stdout) for done in both(STATE, "a=b", "é \n", ODD="ö\n", STKD_CACHE="cache"))
    assert expected["environment"].keys() ^ forked["environment"].keys() <= {
        "KMP_INIT_AT_FORK",
        "KMP_DUPLICATE_LIB_OK",
        "PYTORCH_NVML_BASED_CUDA_CHECK",
    }  # set by imports
    for state in (forked, expected):
        assert state["environment"]["ODD"] == "ö\n"
        assert state["arguments"][1:] == ["a=b", "é \n"]
        assert state["input"] == ""
        del state["environment"]
    assert forked == expected


def test_numbers_drawn_at_random_differ(both: Both) -> None:
    program = (
        "import numpy, random, tempfile, torch\n"
        "print(random.random(), numpy.random.random(), torch.initial_seed(), tempfile.mktemp())"
    )
    drawn = [done.stdout.split() for _ in range(2) for done in both(program)]
    assert all(len(set(values)) == 4 for values in zip(*drawn, strict=True))


def test_late_child_is_killed_and_the_next_runs(fork_server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)")
    (tmp_path / "next.py").write_text("print('next')")
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        fork_server.run("late", [], cwd=tmp_path, environment=os.environ, timeout=1)
    assert caught.value.stdout == "begun\n"
    assert fork_server.run("next", [], cwd=tmp_path, environment=os.environ, timeout=60).stdout == "next\n"


@pytest.mark.parametrize(
    "variable", ["OMP_NUM_THREADS", "PYTHONPATH", "HYDRA_FULL_ERROR", "SLURM_JOB_ID", "LC_ALL", "HF_HOME"]
)
def test_variables_read_at_import_are_not_served(variable: str, fork_server: ForkServer) -> None:
    assert not fork_server.serves({**os.environ, variable: "changed"})
    assert fork_server.serves({**os.environ, "STKD_CACHE": "changed", "WANDB_API_KEY": "changed"})


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["loss=stdk"], ["student=timm"]], ids=" ".join)
def test_commands_write_what_a_fresh_one_writes(arguments: list[str], fork_server: ForkServer, tmp_path: Path) -> None:
    module, environment = "stkd_lightning.train", dict(os.environ)
    forked = fork_server.run(module, arguments, cwd=tmp_path, environment=environment, timeout=60)
    expected = fresh(module, *arguments, cwd=tmp_path, environment=environment)
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        expected.returncode, expected.stdout, expected.stderr)  # fmt: skip
    assert forked.returncode == (0 if arguments[0].startswith("--") else 2)


def test_child_imports_nothing_that_reads_the_environment(both: Both) -> None:
    forked, _ = both("import sys\nprint(sorted({'wandb', 'timm', 'mlflow'} & set(sys.modules)))")
    assert forked.stdout == "[]\n"
