"""The command of ``run.py``: work through the queue, or do one item of it in this process."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import torch

from gpu import carry, check
from gpu.budget import Budget
from gpu.item import Item
from gpu.places import Places
from gpu.prepare import ROOT, started
from gpu.queue import Outcome, Queue
from gpu.records import attempt, write_record
from gpu.sizes import MINIATURE, WHOLE
from gpu.stages import stages


def command(arguments: argparse.Namespace) -> int:
    """Run the command, and return its exit code: 1 if an item failed, 2 without a GPU."""
    if arguments.reference:
        check.write_reference()
        print(check.REFERENCE)
        return 0
    if not (arguments.miniature or torch.cuda.is_available()):
        print("error: no GPU here; --miniature tries the queue on a CPU", file=sys.stderr)
        return 2
    places = Places((arguments.root or (ROOT / "outputs" / "queue" if arguments.miniature else ROOT)).absolute())
    places.work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("STKD_CACHE", str(places.work / "cache"))
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(places.work / "compiled"))
    os.environ.setdefault("OMP_NUM_THREADS", "1" if arguments.miniature else "4")  # several processes at once
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")
    return one(arguments, places) if arguments.item else all_that_fits(arguments, places)


def one(arguments: argparse.Namespace, places: Places) -> int:
    """Do an item and write its record."""
    sizes, begun = MINIATURE if arguments.miniature else WHOLE, time.monotonic()
    os.environ["STKD_DATA"] = str(places.data.absolute())
    budget = Budget.of(arguments.budget, started())
    item = next(i for stage in stages(sizes, places, budget) for i in stage.items if i.title == arguments.item)
    content = attempt(item.run)
    write_record(item.record(places.results), item.title, time.monotonic() - begun, content)
    return 0


def all_that_fits(arguments: argparse.Namespace, places: Places) -> int:
    """Do as much of the queue as fits, write what goes back, and tell what is done and what is left."""
    sizes, out = MINIATURE if arguments.miniature else WHOLE, arguments.out.absolute()
    budget, before = Budget.of(arguments.budget, started()), carry.kept(places)
    options = ["--root", str(places.root), "--budget", str(arguments.budget)]
    options += ["--miniature"] * arguments.miniature

    def process(item: Item) -> list[str]:
        return [sys.executable, str(Path(__file__).with_name("run.py")), *options, "--item", item.title]

    def deliver() -> None:
        carry.deliver(sizes, places, before, out, weights="teachers" in arguments.only)  # a hard end loses no teacher

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    queue, outcome = Queue(places, budget, process, deliver), Outcome()
    try:
        for name in arguments.only:
            # Read anew: the measured speeds decide how many runs are at once.
            stage = next(s for s in stages(sizes, places, budget) if s.name == name)
            outcome = outcome.plus(queue.run(stage))
    finally:
        without_room = carry.deliver(sizes, places, before, out, weights=True)
    if without_room:
        print(f"no room in {out} for: {', '.join(without_room)}", flush=True)
    outcome.tell()
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}; {budget.left:.0f} s left", flush=True)
    return int(bool(outcome.failed))
