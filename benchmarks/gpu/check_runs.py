"""Checks by the train command: a run that is interrupted and resumed, and runs that keep and read logits."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import machine
from soak import compared

from gpu.queue import tail
from gpu.sizes import Sizes

RUN = ("experiment=quickstart", "baseline=false", "logger=csv", "teacher=resnet14", "teacher.min_accuracy=0",
       "diagnostics=false", "checkpoint_minutes=0.001", "hydra.run.dir=run", "cache_dir=cache")  # fmt: skip
LONGEST = 300.0  # time limit of a run in seconds


def begin(folder: Path, sizes: Sizes, options: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start a run in a folder, with a cache of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    device = "gpu" if machine.device().type == "cuda" else "cpu"
    lengths = (f"trainer.max_epochs={sizes.epochs}", "teacher.max_epochs=1", f"trainer.accelerator={device}")
    command = [sys.executable, "-m", "stkd_lightning.train", *RUN, *lengths, *options]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def end(folder: Path, run: "subprocess.Popen[bytes]") -> None:
    """Wait for a run.

    Raises:
        RuntimeError: it failed; with the end of its log.
    """
    if code := run.wait(LONGEST):
        raise RuntimeError(f"exit code {code}: {tail(folder / 'log')}")


def ways(sizes: Sizes) -> dict[str, tuple[str, ...] | None]:
    """Return the options of each way to train; ``None``: not on this device."""
    cuda = machine.device().type == "cuda"
    return {
        "float32": ("precision=32-true", "compile=false"),
        "bfloat16, compiled": ("precision=bf16-mixed", "compile=true") if sizes.compiles else None,
        "one graph": ("precision=bf16-mixed", "compile=true", "cuda_graph=true") if cuda else None,
    }


def resume(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Interrupt a run by SIGTERM and resume it; its files must equal those of an uninterrupted run."""
    shutil.rmtree(folder, ignore_errors=True)

    def one(way: tuple[str, tuple[str, ...] | None]) -> dict[str, Any] | str:
        name, options = way
        if options is None:
            return "not on this device"
        whole, part = folder / name / "whole", folder / name / "part"
        uninterrupted, run = begin(whole, sizes, options), begin(part, sizes, options)
        while run.poll() is None and not (part / "run" / "checkpoints" / "last.ckpt").is_file():
            time.sleep(0.02)
        run.send_signal(signal.SIGTERM)
        code = run.wait(LONGEST)
        end(part, begin(part, sizes, (*options, "resume=auto")))
        end(whole, uninterrupted)
        differences = compared(whole / "run", part / "run")
        return {
            "exit_code": code,
            "differences": differences,
            "passed": code == 128 + signal.SIGTERM and not differences,
        }

    with ThreadPoolExecutor(_at_once(sizes)) as pool:
        return dict(zip(ways(sizes), pool.map(one, ways(sizes).items()), strict=True))


def replay(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Record a teacher's logits in one run and read them in another; both must equal a run that does neither.

    A compiled run on a GPU that does neither has one trace and rounds otherwise, so it is not compared.
    """
    shutil.rmtree(folder, ignore_errors=True)

    def one(way: tuple[str, tuple[str, ...] | None]) -> dict[str, Any] | str:
        name, options = way
        if options is None or name == "one graph":
            return "not on this device"
        options = (*options, "trainer.max_epochs=2")
        plain, kept = folder / name / "plain", folder / name / "kept"
        alone = begin(plain, sizes, options)
        end(kept, begin(kept, sizes, (*options, "teacher.replay=true")))
        end(kept, begin(kept, sizes, (*options, "teacher.replay=true", "hydra.run.dir=again")))
        end(plain, alone)
        differences = {"replayed": compared(kept / "run", kept / "again")}
        if "compile=false" in options or machine.device().type != "cuda":
            differences["recorded"] = compared(plain / "run", kept / "run")
        return {**differences, "passed": not any(differences.values())}

    with ThreadPoolExecutor(_at_once(sizes)) as pool:
        return dict(zip(ways(sizes), pool.map(one, ways(sizes).items()), strict=True))


def _at_once(sizes: Sizes) -> int:
    return len(ways(sizes)) if len(os.sched_getaffinity(0)) > 4 else 1
