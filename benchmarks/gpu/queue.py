"""The queue: starts the items that fit into the budget, several at once where their stage allows it."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

from gpu.budget import Budget
from gpu.item import Item
from gpu.places import Places
from gpu.records import KEPT_TEXT, failure, write_record

LONGEST = 3.0  # an item that takes so many times its expected seconds, and more than two minutes, is ended
SHOWN = 12  # titles of a fate
PATIENCE = 20.0  # seconds in which a cut item saves its state


@dataclass(frozen=True)
class Stage:
    """Items of one kind.

    Attributes:
        name: name for ``--only``.
        items: in the order of their worth.
        width: number of items that run at once.
        prepare: called before the first item that is started; raises if the stage cannot run.
    """

    name: str
    items: Sequence[Item]
    width: int = 1
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Running:
    """An item's process."""

    item: Item
    process: "subprocess.Popen[bytes]"
    begun: float
    log: Path

    def late(self, budget: Budget) -> bool:
        """Return true if the item must end now."""
        took = time.monotonic() - self.begun
        return budget.left <= 0 or (not self.item.resumable and took > max(120.0, LONGEST * self.item.seconds))

    def cut(self) -> None:
        """Ask a resumable item to save its state and to end."""
        if self.item.resumable and self.process.poll() is None:
            self.process.terminate()

    def end(self) -> None:
        """Wait for a resumable item, and end what remains of an item's processes."""
        if self.item.resumable:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Outcome:
    """Titles of items by their fate; those ``cut`` are resumed later, those ``left`` did not start, with the reason."""

    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    def plus(self, other: "Outcome") -> "Outcome":
        """Return the outcome of both."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Outcome(*(one + another for one, another in pairs))

    def tell(self) -> None:
        """Print what was done and what is left."""
        for fate, titles in asdict(self).items():
            shown = ", ".join(titles[:SHOWN]) or "nothing"
            print(f"{fate}: {shown}" + (f" and {len(titles) - SHOWN} more" if len(titles) > SHOWN else ""), flush=True)


class Queue:
    """Runs stages within a budget.

    Args:
        places: folders of the queue.
        budget: of the whole command.
        command: returns the command that does an item in a process of its own and writes its record.
        deliver: called after each item that wrote a record.
    """

    def __init__(
        self,
        places: Places,
        budget: Budget,
        command: Callable[[Item], Sequence[str]],
        deliver: Callable[[], None] = lambda: None,
    ) -> None:
        self.places, self.budget, self.command, self.deliver = places, budget, command, deliver

    def run(self, stage: Stage) -> Outcome:
        """Run the items of a stage that are not done and fit; the failure of one does not stop the others."""
        waiting = [item for item in stage.items if not item.done(self.places.results)]
        outcome = Outcome()
        if waiting and self.budget.fits(min(item.seconds for item in waiting)):
            try:
                stage.prepare()
            except Exception as error:
                return replace(outcome, left=tuple(f"{item.title} ({error})" for item in waiting))
        running: list[Running] = []
        try:
            while waiting or running:
                late = [one for one in running if one.process.poll() is None and one.late(self.budget)]
                for one in late:  # all save at once
                    one.cut()
                for one in [one for one in running if one in late or one.process.poll() is not None]:
                    running.remove(one)
                    outcome = self._finish(one, outcome, late=one in late)
                waiting, outcome = self._start(stage, waiting, running, outcome)
                time.sleep(0.05)
        finally:
            for one in running:
                one.cut()
            for one in running:
                one.end()
        return outcome

    def _start(
        self, stage: Stage, waiting: Sequence[Item], running: list[Running], outcome: Outcome
    ) -> tuple[list[Item], Outcome]:
        """Start items while there is room; return the items that still wait."""
        later = []
        for item in waiting:
            if len(running) >= stage.width and self.budget.fits(item.seconds):
                later.append(item)
            elif why := "no time" if not self.budget.fits(item.seconds) else item.needs():
                outcome = replace(outcome, left=(*outcome.left, f"{item.title} ({why})"))
            else:
                running.append(self._begin(item))
        return later, outcome

    def _begin(self, item: Item) -> Running:
        log = self.places.work / "logs" / item.stage / f"{item.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        record = item.record(self.places.results)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)  # of a failed try
        print(f"{item.title}: begins, {self.budget.left:.0f} s left", flush=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(item), cwd=self.places.root, stdout=output, stderr=output, start_new_session=True
            )
        return Running(item, process, time.monotonic(), log)

    def _finish(self, one: Running, outcome: Outcome, *, late: bool) -> Outcome:
        """End an item's process and tell its fate; write a record for one that could not."""
        one.end()
        item, took = one.item, time.monotonic() - one.begun
        record = item.record(self.places.results)
        if item.resumable and late and not record.is_file():
            print(f"{item.title}: cut after {took:.0f} s, to be resumed", flush=True)
            return replace(outcome, cut=(*outcome.cut, item.title))
        if not record.is_file():
            why = f"ended after {took:.0f} s" if late else f"exit code {one.process.returncode}"
            write_record(record, item.title, took, failure(f"{why}: {_last_line(one.log)}") | {"log": tail(one.log)})
        self.deliver()
        if item.done(self.places.results):
            print(f"{item.title}: done in {took:.0f} s", flush=True)
            return replace(outcome, done=(*outcome.done, item.title))
        why = json.loads(record.read_text()).get("error", "a check has not passed")
        print(f"{item.title}: failed after {took:.0f} s: {why}", flush=True)
        return replace(outcome, failed=(*outcome.failed, item.title))


def tail(path: Path) -> str:
    """Return the end of a log."""
    return path.read_text(errors="replace")[-KEPT_TEXT:] if path.is_file() else ""


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1][:300] if lines else ""
