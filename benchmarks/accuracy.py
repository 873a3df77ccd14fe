"""Accuracy of methods, data sets and settings, a table of runs at a time.

    python benchmarks/accuracy.py table=A                 # what is not there yet; killed, it goes on where it was
    python benchmarks/accuracy.py table=B parts=resnet56_resnet20 rows=KD,STKD seeds=0,1
    python benchmarks/accuracy.py show=true               # only write what there is into the README

Tables are defined in benchmarks/tables/. Each run is the train command as a user runs it, students selected on
validation images and test images read once; when it is finished, its figures are kept as a file of their own in
benchmarks/results/accuracy/, which is what the README's tables are made of. Figures that another table has of the same
settings are taken from there. Data are looked for in ``$STKD_DATA`` or ``data``; checkpoints stay in
``outputs/accuracy``.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tabulated
from omegaconf import DictConfig, OmegaConf
from tabulated import RESULTS, Record, Table, read_table, record_file

from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.files import write_json
from stkd_lightning.utilities.paths import key_of

OPTIONS = {"table": "A", "parts": "", "rows": "", "seeds": "", "work": "outputs/accuracy", "show": False}
# What a run's summary says of it beside how it was started.
KEPT = ("seed", "student", "teacher", "seconds", "images_per_second", "versions", "hardware")


@dataclass(frozen=True)
class Job:
    """One run of a table."""

    table: Table
    part: str
    row: str
    seed: int

    @property
    def settings(self) -> list[str]:
        """The options that it is started with, beside where things lie."""
        return tabulated.settings(self.table, self.part, self.row, self.seed)

    @property
    def done(self) -> bool:
        """Whether its figures are there, of the same settings."""
        return tabulated.record(self.table, self.part, self.row, self.seed) is not None

    def keep(self, figures: Record) -> None:
        """Write its figures, of which a table without test images leaves those out.

        Raises:
            InputError: they are of other data or of another teacher than the part's others, beside which they mislead.
        """
        for other in tabulated.records(self.table, self.part):
            if odd := tabulated.apart(figures, other):
                raise InputError(
                    f"{self.part}, {self.row}, seed {self.seed}: has {odd} than {other['row']}, seed {other['seed']}; "
                    f"move {RESULTS / self.table.name / self.part} away to run the part anew"
                )
        student = {k: v for k, v in figures["student"].items() if k != "test" or not self.table.validation_only}
        file = record_file(self.table, self.part, self.row, self.seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        own = {"settings": self.settings, "row": self.row, "part": self.part}
        write_json(file, own | {k: v for k, v in figures.items() if k not in own} | {"student": student})


def jobs(table: Table, options: DictConfig) -> Iterator[Job]:
    """Yield a table's runs, a whole pass over the rows for each seed."""
    parts = _chosen(options.parts, table.parts, "part")
    rows = _chosen(options.rows, table.rows, "row")
    seeds = [int(word) for word in _chosen(options.seeds, {str(seed): seed for seed in table.seeds}, "seed")]
    for part in parts:
        for seed in seeds:
            for row in rows:
                yield Job(table, part, row, seed)


def _chosen(words: Any, known: dict[str, Any], kind: str) -> list[str]:
    chosen = [w for w in str(words).split(",") if w] or list(known)
    if odd := [w for w in chosen if w not in known]:
        raise unknown(kind, odd[0], known)
    return chosen


def run(job: Job, work: Path) -> None:
    """Run a job, or the rest of it, and keep its figures."""
    data = Path(os.environ.get("STKD_DATA", "data")).absolute()
    name = record_file(job.table, job.part, job.row, job.seed).stem
    folder = work / job.table.name / job.part / f"{name}-{key_of(job.settings)}"  # other settings, other folder
    places = [f"dataset.data_dir={data}", f"hydra.run.dir='{folder}'", "resume=auto", "logger=csv"]
    command = [sys.executable, "-m", "stkd_lightning.train", *job.settings, *places]
    start = time.monotonic()
    log = work / f"{job.table.name}.log"
    with log.open("a") as written, subprocess.Popen(command, stdout=written, stderr=written) as child:
        try:
            code = child.wait()
        except SystemExit as asked_to:  # the run saves itself, and is waited for
            if asked_to.code != 128 + signal.SIGINT:  # a terminal tells the run, too
                child.terminate()
            raise
    if code:
        last = log.read_text().rstrip().rpartition("\n")[2]
        sys.exit(f"error: {job.part}, {job.row}, seed {job.seed}: exit code {code}: {last} (all of it: {log})")
    summary = json.loads((folder / "summary.json").read_text())
    facts = {name: summary[name] for name in KEPT if name in summary}
    facts["data"] = {name: summary["data"][name] for name in ("name", "digest")}
    job.keep(facts)
    took = (time.monotonic() - start) / 60
    accuracy = (summary["student"]["validation"] or summary["student"]["test"]["last"])["accuracy"]
    print(f"{job.part}, {job.row}, seed {job.seed}: {accuracy:.2%} in {took:.1f} min", flush=True)


def asked() -> tuple[DictConfig, Table, list[Job]]:
    """Return the options of the command line, and the table and its runs that they name.

    Raises:
        InputError: an unknown option, table, part, row or seed.
    """
    given = OmegaConf.from_dotlist(sys.argv[1:])
    for name in given:
        if name not in OPTIONS:
            raise unknown("option", str(name), OPTIONS)
    options = OmegaConf.merge(OmegaConf.create(OPTIONS), given)
    assert isinstance(options, DictConfig)
    if not isinstance(options.show, bool):
        raise InputError(f"show: {options.show}: true or false")
    table = read_table(str(options.table))
    return options, table, list(jobs(table, options))


def fill(table: Table, every: list[Job], work: Path) -> None:
    """Run what is missing of a table, and have the README show what there is, also when that ends early."""
    work.mkdir(parents=True, exist_ok=True)
    left = [job for job in every if not job.done]
    print(f"table {table.name}: {len(every)} runs, {len(left)} to do; results in {RESULTS}", flush=True)
    try:
        for job in left:
            if same := tabulated.elsewhere(job.settings, tested=not table.validation_only):
                job.keep(same)
                print(f"{job.part}, {job.row}, seed {job.seed}: as in another table", flush=True)
            else:
                run(job, work)
    finally:
        tabulated.write_readme()
    print(tabulated.markdown(table))


def main() -> None:
    """Run what is missing of a table, and bring the README up to date."""
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, _: sys.exit(128 + number))
    try:
        options, table, every = asked()
        if options.show:
            tabulated.write_readme()
        else:
            fill(table, every, Path(options.work).absolute())
    except InputError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
