"""Run commands in children of one process that has imported all, each within limits of time and memory.

``python -m tests.faults.limited CASES RESULTS``: CASES is a JSON list of ``{"command": name, "values": {...}}``.
"""

import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.cli import EXIT_MISTAKE
from stkd_lightning.commands.config.checks import check
from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.endings import failure_of, mistake_of
from stkd_lightning.commands.evaluate import evaluate
from stkd_lightning.commands.export import export
from stkd_lightning.commands.predict import predict
from stkd_lightning.commands.report import report

SECONDS, GROWTH, WAIT = 10, 1 << 30, 60  # of the processor; bytes; of the clock
TRACEBACK = 70  # exit code
JOBS: dict[str, Any] = {"report": report, "evaluate": evaluate, "predict": predict, "export": export}
PLACES = {"report": ["runs=."], "predict": ["checkpoint=.", "images=."]}


def settings(command: str) -> DictConfig:
    """Return a command's configuration, whose places each case sets."""
    with composing():
        return composed(command, PLACES.get(command, ["checkpoint=."]))


def child(command: str, config: DictConfig, values: dict[str, Any], output: Path) -> int:
    """Run a command, with its output in a file; return the exit code that a user would see."""
    signal.alarm(WAIT)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (8 * GROWTH, 8 * GROWTH))  # what has no end must not fill the machine
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    try:
        for name, value in values.items():
            OmegaConf.update(config, name, value)
        check(config)
        OmegaConf.set_readonly(config, True)
        JOBS[command](config)
    except Exception as error:
        mistake = failure_of(error) or mistake_of(error)
        if mistake is None:
            traceback.print_exc()
            return TRACEBACK
        print(f"error: {mistake}", file=sys.stderr)
        return EXIT_MISTAKE
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def main(cases: Path, results: Path) -> None:
    """Run all cases, and write for each its exit status, seconds, growth of memory, and output."""
    ready: dict[str, DictConfig] = {}
    outcomes = []
    output = results.with_suffix(".txt")
    for case in json.loads(cases.read_text()):
        command = case["command"]
        config = ready.setdefault(command, settings(command)) if command not in ready else ready[command]
        first, last = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = TRACEBACK
            try:
                os.write(last, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss).encode())
                code = child(command, config, case["values"], output)
            finally:
                os._exit(code)
        _, status, used = os.wait4(pid, 0)
        before = int(os.read(first, 100))
        os.close(first)
        os.close(last)
        outcomes.append({
            "code": os.waitstatus_to_exitcode(status),
            "seconds": used.ru_utime + used.ru_stime,
            "growth": (used.ru_maxrss - before) * 1024,
            "output": output.read_text(errors="replace")[-5000:],
        })  # fmt: skip
    results.write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
