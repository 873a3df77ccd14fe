"""Stage ``check``: what the tests show on a CPU is shown on the device, against a reference that a CPU made."""

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import machine
import torch

from gpu import short_tagging
from gpu.check_runs import replay, resume
from gpu.item import Item, Result
from gpu.places import Places
from gpu.records import read_result
from gpu.short_run import STEPS, Way, digests, losses
from gpu.sizes import Sizes
from stkd_lightning import CutMix, Mixup
from stkd_lightning.reporting.summary import environment
from stkd_lightning.utilities.files import write_json

REFERENCE = Path(__file__).parents[1] / "results" / "gpu" / "reference_cpu.json"
FIRST, MEAN = 1e-5, 0.02  # largest relative difference of the first loss and of the mean, in float32
HALF_FIRST, HALF_MEAN = 0.01, 0.03  # in half precision, where fused operations round less often
SCALED_MEAN = 0.06  # in float16, whose scaler may leave out the first steps
ELSEWHERE = "not on this device"
TAGGERS = ("cnn6", "crnn")
MIXING = {
    "cutmix": CutMix(per_sample=True),
    "another class": Mixup(1.0, partner="other_class"),
    "clean rows beside": Mixup(1.0, keep=True, forwards=2),
}


def write_reference() -> None:
    """Write the reference: the digests of the virtual images and the losses of 50 steps in float32 on a CPU."""
    heard = {name: short_tagging.losses(Way(), recurrent=name == "crnn") for name in TAGGERS}
    mixed = {name: digests(mixup) for name, mixup in MIXING.items()}
    facts = {"digests": digests(), "losses": losses(Way()), "tagging": heard, "mixing": mixed}
    content = {**facts, **environment(), **machine.commit()}
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    write_json(REFERENCE, content)


def compared(values: Sequence[float], expected: Sequence[float], first: float, whole: float) -> Result:
    """Return how losses differ from the expected ones, relatively, and if they pass."""
    of_first = abs(values[0] / expected[0] - 1)
    of_mean = abs(mean(values) / mean(expected) - 1)
    passed = len(values) == len(expected) and of_first <= first and of_mean <= whole  # false for NaN
    return {"first": of_first, "mean": of_mean, "last_loss": values[-1], "passed": passed}


def checked(parts: dict[str, Any]) -> Result:
    """Return the result of an item: its parts, and if all that ran have passed."""
    return {"passed": all(part["passed"] for part in parts.values() if part != ELSEWHERE), "parts": parts}


def reference() -> Result:
    """Compare virtual images bit for bit, and losses in float32, with the reference."""
    expected = json.loads(REFERENCE.read_text())
    differ = [step for step, pair in enumerate(zip(digests(), expected["digests"], strict=True)) if pair[0] != pair[1]]
    return checked(
        {
            "virtual images": {"steps_that_differ": differ, "passed": not differ},
            "losses": compared(losses(Way()), expected["losses"], FIRST, MEAN),
        }
    )


def compiled(sizes: Sizes) -> Result:
    """Compare bfloat16 eager with compiled, one graph and look-ahead; no graph may be skipped."""
    eager = losses(Way("bf16-mixed"))
    parts: dict[str, Any] = {"eager": {"last_loss": eager[-1], "passed": math.isfinite(eager[-1])}}
    for name, options, here in (
        ("compiled", {"compile": True}, sizes.compiles),
        ("one graph", {"compile": True, "cuda_graph": True}, _cuda()),
        ("look-ahead", {"look_ahead": 4}, True),
    ):
        if here:
            values = losses(Way("bf16-mixed", tuple(options.items())))
            parts[name] = compared(values, eager, HALF_FIRST, HALF_MEAN)
        else:
            parts[name] = ELSEWHERE
    skipped = int(torch._dynamo.utils.counters["inductor"]["cudagraph_skips"])
    parts["skipped graphs"] = {"count": skipped, "passed": not skipped} if _cuda() else ELSEWHERE
    return checked(parts)


def accumulation(sizes: Sizes) -> Result:
    """Compare the losses of batches whose gradients are accumulated over two, eager and compiled."""
    trainer = (("accumulate_grad_batches", 2),)
    eager = losses(Way("bf16-mixed", trainer=trainer))
    parts: dict[str, Any] = {"eager": {"last_loss": eager[-1], "passed": math.isfinite(eager[-1])}}
    parts["compiled"] = ELSEWHERE
    if sizes.compiles:
        values = losses(Way("bf16-mixed", (("compile", True),), trainer))
        parts["compiled"] = compared(values, eager, HALF_FIRST, HALF_MEAN)
    return checked(parts)


def half(sizes: Sizes) -> Result:
    """Compare float16, whose loss is scaled, with bfloat16."""
    if not _cuda():
        return checked({"eager": ELSEWHERE, "compiled": ELSEWHERE})
    expected = losses(Way("bf16-mixed"))
    return checked(
        {
            "eager": compared(losses(Way("16-mixed")), expected, HALF_FIRST, SCALED_MEAN),
            "compiled": compared(losses(Way("16-mixed", (("compile", True),))), expected, HALF_FIRST, SCALED_MEAN),
        }
    )


def ranks() -> Result:
    """Compare one rank of a process group with a single process; by NCCL also with synchronized BatchNorm."""
    alone = losses(Way())
    group = (("strategy", "ddp"),)
    parts: dict[str, Any] = {"one rank": compared(losses(Way(trainer=group)), alone, FIRST, MEAN)}
    parts["sync_batchnorm"] = ELSEWHERE
    if _cuda():
        values = losses(Way(trainer=(*group, ("sync_batchnorm", True))))
        parts["sync_batchnorm"] = compared(values, alone, 10 * FIRST, MEAN)
    return checked(parts)


def tagging(sizes: Sizes) -> Result:
    """Compare tagging in float32 with the reference; bfloat16 eager with compiled, and with one graph.

    A recurrent network is compiled in parts, so it has no graph of the whole step.
    """
    expected = json.loads(REFERENCE.read_text())["tagging"]
    parts: dict[str, Any] = {}
    for name in TAGGERS:
        run = partial(short_tagging.losses, recurrent=name == "crnn")
        parts[f"{name}, float32"] = compared(run(Way()), expected[name], FIRST, MEAN)
        eager = run(Way("bf16-mixed")) if sizes.compiles else []
        for kind, options, here in (
            ("compiled", {"compile": True}, sizes.compiles),
            ("one graph", {"compile": True, "cuda_graph": True}, _cuda() and name != "crnn"),
        ):
            parts[f"{name}, {kind}"] = (
                compared(run(Way("bf16-mixed", tuple(options.items()))), eager, HALF_FIRST, HALF_MEAN)
                if here
                else ELSEWHERE
            )
    return checked(parts)


def mixing(sizes: Sizes) -> Result:
    """Compare the virtual images of other ways to mix bit for bit; bfloat16 eager with one graph."""
    expected = json.loads(REFERENCE.read_text())["mixing"]
    parts: dict[str, Any] = {}
    for name, mixup in MIXING.items():
        differ = [
            step for step, pair in enumerate(zip(digests(mixup), expected[name], strict=True)) if len({*pair}) > 1
        ]
        parts[f"{name}, virtual images"] = {"steps_that_differ": differ, "passed": not differ}
        parts[f"{name}, one graph"] = ELSEWHERE
        if _cuda() and sizes.compiles:
            eager = losses(Way("bf16-mixed", (("mixup", mixup),)))
            graph = losses(Way("bf16-mixed", (("mixup", mixup), ("compile", True), ("cuda_graph", True))))
            parts[f"{name}, one graph"] = compared(graph, eager, HALF_FIRST, HALF_MEAN)
    return checked(parts)


def _cuda() -> bool:
    return machine.device().type == "cuda"


def one_graph_passed(results: Path) -> bool:
    """Return true if a GPU has shown that a step in one graph trains as an eager step does."""
    part = read_result(results / "gpu" / "check" / "compiled.json").get("parts", {}).get("one graph")
    return isinstance(part, dict) and bool(part["passed"])


def items(sizes: Sizes, places: Places) -> list[Item]:
    """Return the items of the stage; they run at once."""
    checks: dict[str, tuple[float, Callable[[], Result]]] = {
        "reference": (45, reference),
        "compiled": (75, partial(compiled, sizes)),
        "resume": (75, lambda: checked(resume(sizes, places.work / "check" / "resume"))),
        "replay": (60, lambda: checked(replay(sizes, places.work / "check" / "replay"))),
        "accumulation": (60, partial(accumulation, sizes)),
        "half": (60, partial(half, sizes)),
        "ranks": (45, ranks),
        "tagging": (90, partial(tagging, sizes)),
        "mixing": (90, partial(mixing, sizes)),
    }
    return [Item("check", name, sizes.seconds * seconds, run) for name, (seconds, run) in checks.items()]


__all__ = ["REFERENCE", "STEPS", "items", "write_reference"]
