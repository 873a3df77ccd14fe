"""Stage ``evidence``: the runs of table B in the order of their worth; a run may span calls and allotments."""

import re
import signal
import sys
from functools import partial
from pathlib import Path

import tabulated
import yaml
from accuracy import Job, run
from tabulated import Table, record_file

from gpu.check import one_graph_passed
from gpu.item import Item, Result
from gpu.places import Places
from gpu.sizes import Sizes
from gpu.teachers import missing

WORTH_A_START = 60.0  # seconds that are left


def jobs(sizes: Sizes, places: Places) -> list[Job]:
    """Return the runs of the table: first rows of first parts before the rest, and part by part, seed by seed."""
    table = tabulated.read_table_file(sizes.table, places.results / "accuracy")
    first = [Job(table, part, row, seed) for part in sizes.parts for seed in table.seeds for row in sizes.rows]
    every = [Job(table, part, row, seed) for part in table.parts for seed in table.seeds for row in table.rows]
    return list({name_of(job): job for job in (*first, *every)}.values())


def name_of(job: Job) -> str:
    """Return the name of a run's item."""
    return f"{job.part}_{record_file(job.table, job.part, job.row, job.seed).stem}"


def folder_of(job: Job, places: Places) -> Path:
    """Return the folder of a run."""
    return places.runs / name_of(job)


def in_one_graph(job: Job, places: Places) -> bool:
    """Return true if a run records its steps in one graph: as it began, else if the check has passed."""
    begun = next(folder_of(job, places).rglob("config.yaml"), None)
    return yaml.safe_load(begun.read_text())["cuda_graph"] if begun else one_graph_passed(places.results)


def teacher_of(table: Table, part: str) -> str | None:
    """Return the name of the teacher in ``benchmarks/teachers`` that a part reads, if any."""
    words = " ".join([*table.settings, *table.parts[part]["settings"]])
    found = re.search(r"teacher\.checkpoint=benchmarks/teachers/(\w+)\.safetensors", words)
    return found[1] if found else None


def needs(job: Job, places: Places) -> str:
    """Return why a run cannot start, or an empty string."""
    teacher = teacher_of(job.table, job.part)
    if teacher and not (places.teachers / f"{teacher}.safetensors").is_file():
        return f"no teacher {teacher}"
    return missing(places.data)


def evidence(job: Job, places: Places) -> Result:
    """Start or resume a run; its results become a row of the table.

    Raises:
        SystemExit: the run failed, or was cut after a signal and can be resumed.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    work = folder_of(job, places)
    work.mkdir(parents=True, exist_ok=True)
    try:
        run(job, work, [f"cuda_graph={str(in_one_graph(job, places)).lower()}"])
    except SystemExit as failed:
        if isinstance(failed.code, str):
            raise RuntimeError(failed.code.removeprefix("error: ")) from failed
        raise
    kept = tabulated.record(job.table, job.part, job.row, job.seed)
    assert kept is not None
    return {"settings": job.settings, "test": kept["student"]["test"], "seconds": kept["seconds"]}


def items(sizes: Sizes, places: Places) -> list[Item]:
    """Return the items of the stage."""
    return [
        Item(
            "evidence",
            name_of(job),
            sizes.seconds * WORTH_A_START,
            partial(evidence, job, places),
            resumable=True,
            already=lambda job=job: job.done,  # type: ignore[misc]
            needs=partial(needs, job, places),
        )
        for job in jobs(sizes, places)
    ]


def unfinished(sizes: Sizes, places: Places) -> list[Path]:
    """Return the folders of runs that have a checkpoint and no results, in the order of the queue."""
    begun = [folder_of(job, places) for job in jobs(sizes, places) if not job.done]
    return [folder for folder in begun if list(folder.rglob("last.ckpt"))]
