"""Comparison of runs killed at random moments with uninterrupted runs: weights, metrics and results must be equal.

    python benchmarks/soak.py --each 10              # 10 SIGKILLs and 10 SIGTERMs of each kind of run, about an hour
    python benchmarks/soak.py --minutes 120          # for two hours
    python benchmarks/soak.py --each 10 --jobs 2     # two runs at a time

Each trial starts with an empty cache, so that the signal can also hit the training of teacher and baseline. It is hit
once, at any moment from the start of the process to its end, and resumed with ``resume=auto``.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from machine import facts

RUN = ["experiment=quickstart", "teacher=resnet14", "teacher.max_epochs=4", "teacher.min_accuracy=0",
       "trainer.max_epochs=8", "checkpoint_minutes=0.01", "logger=csv", "callbacks=ema",
       "diagnostics=2048"]  # fmt: skip
PATHS = {
    "resident": ["dataset.resident=true"],
    "workers": ["dataset.resident=false", "dataset.workers=1"],
    "two ranks": ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"],
}
# The words in the log with which each phase begins; the end has pictures, dashboards and summary.json.
PHASES = {
    "start": "",
    "teacher": "teacher: training",
    "baseline": "baseline: training",
    "student": "student: training",
    "end": "last and selected student",
}
RESULTS = Path(__file__).parent / "results"
LONGEST = 300.0  # time limit of a run in seconds


@dataclass(frozen=True)
class Trial:
    """One run that was interrupted.

    Attributes:
        path: name of the kind of run.
        kind: name of the signal.
        phase: phase of the run in which the signal was sent.
        moment: seconds from the start of the drawn phase to the signal.
        exit_code: exit code after the signal; 0: the run finished before the signal.
        differences: differences from the uninterrupted run.
    """

    path: str
    kind: str
    phase: str
    moment: float
    exit_code: int
    differences: list[str]


def begin(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start or resume a run with a separate cache."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "stkd_lightning.train", *RUN, *arguments, "hydra.run.dir=run", "cache_dir=cache"]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def whole(folder: Path, path: str) -> dict[str, float]:
    """Make an uninterrupted run, and return the seconds of each phase."""
    run = begin(folder, *PATHS[path])
    begun: dict[str, float] = {}
    while run.poll() is None:
        for name in reached(folder):
            begun.setdefault(name, time.monotonic())
        time.sleep(0.02)
    if run.returncode:
        raise RuntimeError((folder / "log").read_text())
    times = [*begun.values(), time.monotonic()]
    return {name: after - before for name, before, after in zip(begun, times, times[1:], strict=False)}


def reached(folder: Path) -> list[str]:
    """Return the phases that a run has begun."""
    log = (folder / "log").read_text()
    return [name for name, words in PHASES.items() if words in log]


def trial(folder: Path, path: str, kind: str, phase: str, moment: float, reference: Path) -> Trial:
    """Interrupt a run once, resume it, and compare its files with those of an uninterrupted run.

    Args:
        folder: folder for the run.
        path: name of the kind of run.
        kind: ``SIGKILL`` or ``SIGTERM``.
        phase: phase in which the signal is sent.
        moment: seconds from the start of the phase to the signal.
        reference: folder of the uninterrupted run.
    """
    part = begin(folder, *PATHS[path])
    while phase not in reached(folder) and part.poll() is None:
        time.sleep(0.02)
    time.sleep(moment)
    hit_in = reached(folder)[-1]  # perhaps a later phase, if this run is faster than the uninterrupted one
    if part.poll() is None:
        # A scheduler sends SIGTERM to all processes of a run; SIGKILL usually hits only the largest process.
        os.killpg(part.pid, signal.SIGTERM) if kind == "SIGTERM" else part.kill()
    hit = part.wait(LONGEST)
    finished = (folder / "run" / "summary.json").exists()
    code = begin(folder, *PATHS[path], "resume=auto").wait(LONGEST)
    differences = compared(reference / "run", folder / "run") if code == 0 else [f"exit code {code}"]
    # Python itself has no handler for signals while it starts, and when it ends after the run.
    unhandled = [-signal.SIGTERM] if hit_in == "start" or finished else []
    if kind == "SIGTERM" and hit not in (0, 128 + signal.SIGTERM, *unhandled):
        differences.append(f"exit code {hit} after SIGTERM")
    return Trial(path, kind, hit_in, moment, hit, differences)


def compared(one: Path, other: Path) -> list[str]:
    """Return the differences between two runs that must be bit-identical."""
    differences = []
    for name in ("last", "best"):
        states = [torch.load(f / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"] for f in (one, other)]
        if states[0].keys() != states[1].keys():
            differences.append(f"{name} keys")
        differences += [f"{name} {k}" for k, v in states[0].items() if not torch.equal(v, states[1].get(k))]
    if (one / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes():
        differences.append("metrics.csv")
    summaries: list[dict[str, Any]] = [json.loads((f / "summary.json").read_text()) for f in (one, other)]
    differences += [
        p for p in ("student", "teacher", "baseline", "front") if summaries[0].get(p) != summaries[1].get(p)
    ]
    litter = {str(p.relative_to(other)) for p in other.rglob("*")} ^ {str(p.relative_to(one)) for p in one.rglob("*")}
    return differences + sorted(litter)


def block(name: str) -> str:
    """Return the table of these results for the documents."""
    trials = json.loads((RESULTS / f"soak_{name}.json").read_text())["trials"]
    return table([Trial(**trial) for trial in trials])


def table(trials: list[Trial]) -> str:
    """Return the counts as a Markdown table."""
    first, *others = PHASES
    lines = [f"| run | signal | runs | hit | in {first} | {' | '.join(others)} | identical |"]
    lines.append("|---|---|" + "---:|" * (len(PHASES) + 3))
    for path in dict.fromkeys(t.path for t in trials):
        for kind in ("SIGKILL", "SIGTERM"):
            own = [t for t in trials if (t.path, t.kind) == (path, kind)]
            hit = Counter(t.phase for t in own if t.exit_code)
            same = sum(not t.differences for t in own)
            counts = [len(own), sum(hit.values()), *(hit[phase] for phase in PHASES), same]
            lines.append(f"| {path} | {kind} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the trials, print a table, and write all results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--each", type=int, default=10, help="runs of each kind for each signal")
    parser.add_argument("--minutes", type=float, help="run for this time, instead of --each")
    parser.add_argument("--jobs", type=int, default=1, help="number of parallel runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "soak_cpu.json")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // arguments.jobs)))
    end = time.monotonic() + 60 * (arguments.minutes or 0)

    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(arguments.jobs) as pool:
        root = Path(name)
        durations = dict(zip(PATHS, pool.map(lambda p: whole(root / f"whole-{p}", p), PATHS), strict=True))

        def one(number: int) -> Trial | None:
            if arguments.minutes and time.monotonic() > end:
                return None
            draw = random.Random(f"{arguments.seed} {number}")
            path, kind = list(PATHS)[number % len(PATHS)], ("SIGKILL", "SIGTERM")[number // len(PATHS) % 2]
            phase = draw.choice((*PHASES, "student"))
            moment = draw.uniform(0, durations[path][phase])
            folder = root / str(number)
            done = trial(folder, path, kind, phase, moment, root / f"whole-{path}")
            print(
                f"{number:3d} {path:9s} {kind} in {done.phase}: {', '.join(done.differences) or 'identical'}",
                flush=True,
            )
            if done.differences:
                print((folder / "log").read_text()[-2000:], flush=True)
            shutil.rmtree(folder)
            return done

        count = 10**6 if arguments.minutes else 2 * len(PATHS) * arguments.each
        trials = [t for t in pool.map(one, range(count)) if t is not None]
    print(table(trials))
    content = {"trials": [asdict(t) for t in trials], "seconds_uninterrupted": durations, **facts()}
    arguments.output.write_text(json.dumps(content, indent=1))
    raise SystemExit(any(t.differences for t in trials))


if __name__ == "__main__":
    main()
