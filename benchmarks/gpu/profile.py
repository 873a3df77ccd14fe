"""The busy share of the device and the kernels of a step, by torch's profiler."""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import contestants
import machine
import torch
from pacing import FinishedError
from torch.profiler import ProfilerActivity

from gpu.item import Result

STEPS = 200
ELSEWHERE = "not on this device"


class Script:
    """Takes the place of a pacer's connection: warms a training up, times some steps, and profiles as many."""

    def __init__(self, warm_up: int) -> None:
        self.counts = [warm_up, STEPS, STEPS, 0]
        self.profiler = torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
        self.seconds = 0.0

    def recv(self) -> int:
        """Return the number of steps until the next report."""
        if len(self.counts) == 2:
            self.profiler.start()
        if len(self.counts) == 1:
            self.profiler.stop()
        return self.counts.pop(0)

    def send(self, report: dict[str, Any]) -> None:
        """Keep the time of the steps without the profiler."""
        if len(self.counts) == 2:
            self.seconds = report["seconds"]


def profile(options: dict[str, Any], pair: tuple[str, str], batch_size: int) -> Result:
    """Profile this package's training.

    Args:
        options: of ``contestants.ours``.
        pair: teacher and student.
        batch_size: images of a step.

    Returns:
        Milliseconds of a step, of which the device is busy; the share of these; device operations of a step, the
        launches of a step by the name of the call, and the longest kernels in microseconds of a step.
    """
    if machine.device().type != "cuda":
        return {"profile": ELSEWHERE}
    script: Any = Script(20)
    with tempfile.TemporaryDirectory() as folder, suppress(FinishedError):
        contestants.ours(script, pair, batch_size, Path(folder), "bf16-mixed", **options)
    return summary(script.profiler, script.seconds)


def _on_device(event: Any) -> bool:
    """Return true for a kernel or a copy; calls on the host and spans that a program named are none."""
    return event.device_type == torch.autograd.DeviceType.CUDA and not event.is_user_annotation


def summary(profiler: torch.profiler.profile, seconds: float) -> Result:
    """Return the figures of a step from the profile of ``STEPS`` steps, and the time of as many without it."""
    spans = sorted(
        (event.time_range.start, event.time_range.end) for event in profiler.events() or [] if _on_device(event)
    )
    busy, end = 0.0, -1.0
    for start, stop in spans:  # kernels of two streams overlap
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    averages = profiler.key_averages()
    launches = {e.key: e.count / STEPS for e in averages if e.key.startswith(("cudaLaunch", "cuLaunch", "cudaGraph"))}
    kernels = {e.key[:100]: e.self_device_time_total / STEPS for e in averages if _on_device(e)}
    longest = sorted(kernels.items(), key=lambda kernel: -kernel[1])[:15]
    return {
        "step_ms": 1000 * seconds / STEPS,
        "busy_ms": busy / 1000 / STEPS,
        "busy_share": busy / 1e6 / seconds,
        "device_operations": len(spans) / STEPS,
        "launches": launches,
        "kernels_us": dict(longest),
    }
