"""Hardware, versions and other load of the machine that runs a benchmark."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from stkd_lightning.commands.training.precision import has_bfloat16
from stkd_lightning.reporting.summary import environment

BUSY = 10.0  # percent of all cores; on 2 cores a second busy process makes the training ten times slower


def device() -> torch.device:
    """Return the device for benchmarks."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize() -> None:
    """Wait until the device has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alone() -> float:
    """Return the load of other processes in percent of all cores; print a warning if it is high."""
    busy = psutil.cpu_percent(interval=1.0)  # this process sleeps during the interval
    if busy > BUSY:
        print(f"warning: other processes use {busy:.0f} % of this machine; the results are unreliable", flush=True)
    return busy


def matrix_peak(dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Return the highest rate of floating-point operations per second in a matrix product or a convolution.

    Both are measured, since on some CPUs the library for one of them is not tuned to the hardware.
    """
    size = 8192 if torch.cuda.is_available() else 2048
    left, right = (torch.randn(size, size, device=device()).to(dtype) for _ in range(2))
    images = torch.randn(64, 256, 16, 16, device=device()).to(dtype).contiguous(memory_format=torch.channels_last)
    weights = torch.randn(256, 256, 3, 3, device=device()).to(dtype).contiguous(memory_format=torch.channels_last)
    works = [
        (lambda: left @ right, 2 * size**3),
        (lambda: torch.nn.functional.conv2d(images, weights, padding=1), 2 * 64 * 16 * 16 * 256 * 256 * 9),
    ]
    best, begin = 0.0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for work, operations in works:
            synchronize()
            start = time.perf_counter()
            work()
            synchronize()
            best = max(best, operations / (time.perf_counter() - start))
    return best


def facts() -> dict[str, Any]:
    """Return hardware, versions and commit."""
    info = environment()
    info["hardware"]["amx"] = torch.cpu._is_amx_tile_supported()
    info["hardware"]["avx512_bf16"] = torch.cpu._is_avx512_bf16_supported()
    info["hardware"]["matrix_gflops"] = {
        str(d).removeprefix("torch."): round(matrix_peak(d) / 1e9)
        for d in ([torch.float32, torch.bfloat16] if has_bfloat16(device().type) else [torch.float32])
    }
    return info | commit()


def commit() -> dict[str, Any]:
    """Return the commit, and if files differ from it; without git, as the folder to carry has it."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
        except FileNotFoundError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    if head := git("rev-parse", "HEAD"):
        changed = git("status", "--porcelain", "--", "src", "conf", "benchmarks/*.py")
        return {"commit": head, "changed": bool(changed)}
    for file in sorted((root / ".gpu").glob("[12]/commit.json"), key=lambda f: f.stat().st_mtime, reverse=True):
        kept: dict[str, Any] = json.loads(file.read_text())
        return kept
    return {"commit": None, "changed": False}
