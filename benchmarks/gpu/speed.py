"""Stage ``speed``: each row beside the reference loop, the GPU's busy share, and several trainings at once."""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import contestants
import machine
from pacing import Contestant

from gpu.item import Item, Result
from gpu.profile import profile
from gpu.records import read_result
from gpu.sizes import Sizes

ELSEWHERE = "not on this device"
REFERENCE_WAIT = 60.0  # seconds in which the reference warms up, after the other training has


@dataclass(frozen=True)
class Row:
    """A training that is measured.

    Attributes:
        name: name in the record.
        seconds: expected duration of its measurement beside the reference on an H200, most of it compilation.
        options: options of ``contestants.ours``; ``None``: it is another training.
        device: it needs CUDA.
    """

    name: str
    seconds: float
    options: tuple[tuple[str, Any], ...] | None = None
    device: bool = False


COMPILED = ("compile", True)
GRAPH = Row("one graph", 60, (COMPILED, ("cuda_graph", True)), device=True)
OURS = Row("ours", 60, (COMPILED,))
# In the order of their worth.
ROWS = (
    GRAPH,
    OURS,
    Row("ours, replay", 50, (COMPILED, ("replay", True))),
    Row("ours, look-ahead 2", 60, (COMPILED, ("look_ahead", 2))),
    Row("ours, look-ahead 4", 60, (COMPILED, ("look_ahead", 4))),
    Row("ours, eager", 35, ()),
    Row("ours, not deterministic", 60, (COMPILED, ("deterministic", False))),
    Row("bare loop", 60),
)


def contestant(row: Row, pair: tuple[str, str], batch_size: int, folder: Path, sizes: Sizes) -> Contestant:
    """Start a training in its process."""
    common: dict[str, Any] = {"pair": pair, "batch_size": batch_size}
    precision = "bf16-mixed" if machine.device().type == "cuda" else "32-true"
    if row.options is None:
        return Contestant(contestants.bare, {**common, "precision": precision, "compile": sizes.compiles})
    options = dict(row.options) | ({"compile": sizes.compiles} if COMPILED in row.options else {})
    return Contestant(contestants.ours, {**common, "folder": folder, "precision": precision, **options})


def measure(row: Row, pair: tuple[str, str], batch_size: int, sizes: Sizes) -> Result:
    """Measure a training beside the reference, in turns, and return their speeds and the ratio."""
    if row.device and machine.device().type != "cuda":
        return {row.name: ELSEWHERE}
    busy = machine.alone()
    with tempfile.TemporaryDirectory() as name:
        both = {
            "reference": Contestant(contestants.reference, {"pair": pair, "batch_size": batch_size}),
            row.name: contestant(row, pair, batch_size, Path(name), sizes),
        }
        try:
            speeds = race(both, batch_size, sizes)
        finally:
            for one in both.values():
                one.stop()
    beside = "reference" in speeds
    ratio = speeds[row.name]["median"] / speeds["reference"]["median"] if beside else None
    return {"ratio": ratio, **speeds, "busy_percent": busy}


def race(field: dict[str, Contestant], batch_size: int, sizes: Sizes) -> dict[str, dict[str, Any]]:
    """Warm the trainings up at once, then run them in turns; return images per second, median and of each round.

    A reference that does not warm up in time is left out, so that the other figures are not lost.
    """
    for one in field.values():
        one.begin(sizes.warm_up)
    for name, one in field.items():
        if name != "reference":
            one.report()
    if "reference" in field:
        if field["reference"].ready(REFERENCE_WAIT):
            field["reference"].report()
        else:
            field = {name: one for name, one in field.items() if name != "reference"}
    steps = {}
    for name, one in field.items():
        pace = one.steps(5)["seconds"] / 5
        steps[name] = max(3, round(sizes.round_seconds / pace))
    speeds: dict[str, list[float]] = {name: [] for name in field}
    for _ in range(sizes.rounds):
        for name, one in field.items():
            speeds[name].append(batch_size * steps[name] / one.steps(steps[name])["seconds"])
    return {name: {"median": statistics.median(of), "rounds": [round(s, 1) for s in of]} for name, of in speeds.items()}


def together(count: int, pair: tuple[str, str], batch_size: int, sizes: Sizes) -> Result:
    """Measure several trainings at once; return the images per second of each and of all."""
    row = GRAPH if machine.device().type == "cuda" else OURS
    with tempfile.TemporaryDirectory() as name:
        field = [contestant(row, pair, batch_size, Path(name) / str(number), sizes) for number in range(count)]
        try:
            for one in field:
                one.begin(sizes.warm_up)
            for one in field:
                one.report()
            pace = field[0].steps(5)["seconds"] / 5
            steps = max(3, round(sizes.rounds * sizes.round_seconds / pace))
            for one in field:
                one.begin(steps)
            speeds = [batch_size * steps / one.report()["seconds"] for one in field]
        finally:
            for one in field:
                one.stop()
    return {"row": row.name, "each": [round(s, 1) for s in speeds], "images_per_second": sum(speeds)}


def best_width(results: Path, sizes: Sizes) -> int:
    """Return the number of trainings at once with the most images per second; 1 if they were not measured."""
    name = f"{_slug(sizes.pairs[0])}_{sizes.batches[0]}"
    alone = read_result(results / "gpu" / "speed" / f"{name}_{_file(GRAPH.name)}.json").get(GRAPH.name)
    speeds = {1: alone["median"] if isinstance(alone, dict) else 0.0}
    for count in sizes.together:
        speeds[count] = read_result(results / "gpu" / "speed" / f"{name}_together_{count}.json").get(
            "images_per_second", 0
        )
    return max(speeds, key=lambda count: speeds[count])


def _slug(pair: Sequence[str]) -> str:
    return "_".join(pair)


def _file(name: str) -> str:
    return name.replace(",", "").replace(" ", "_").replace("-", "_")


def items(sizes: Sizes) -> list[Item]:
    """Return the items of the stage in the order of their worth."""
    share = sizes.seconds
    first, small = sizes.pairs[0], sizes.batches[0]

    def rows(row: Row, pair: tuple[str, str], batch_size: int) -> Item:
        name = f"{_slug(pair)}_{batch_size}_{_file(row.name)}"
        return Item("speed", name, share * row.seconds, partial(measure, row, pair, batch_size, sizes))

    profiled = [
        Item(
            "speed",
            f"{_slug(first)}_{small}_profile_{_file(row.name)}",
            share * 40,
            partial(profile, dict(row.options or ()), first, small),
        )
        for row in (GRAPH, OURS)
    ]
    several = [
        Item("speed", f"{_slug(first)}_{small}_together_{n}", share * 60, partial(together, n, first, small, sizes))
        for n in sizes.together
    ]
    most = [rows(GRAPH, first, batch) for batch in sizes.batches]
    chosen = [row for row in ROWS if row.name in (sizes.measured or (row.name,))]
    every = [rows(row, pair, batch) for row in chosen for pair in sizes.pairs for batch in sizes.batches]
    ordered = [*most[:1], profiled[0], *several, *most[1:], *every, *profiled[1:]]
    return list({item.name: item for item in ordered}.values())
