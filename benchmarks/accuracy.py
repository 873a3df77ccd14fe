"""Make tables of accuracies: methods, data sets and settings.

    python benchmarks/accuracy.py table=A                 # run what is missing; resumes after an interruption
    python benchmarks/accuracy.py table=B parts=resnet56_resnet20 rows=KD,STKD seeds=0,1
    python benchmarks/accuracy.py show=true               # only write the tables into README.md and docs/

benchmarks/tables/ defines the tables. Each run is the train command of a user: students are selected on validation
images, and test images are used once. A finished run writes a file to benchmarks/results/accuracy/; the tables are
generated from these files. Results of another table with the same settings are reused. The data are in
``$STKD_DATA`` or ``data``; checkpoints stay in ``outputs/accuracy``.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import documents
import tabulated
from omegaconf import DictConfig, OmegaConf
from tabulated import RESULTS, Record, Table, read_table, record_file

from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.files import write_json
from stkd_lightning.utilities.paths import key_of

OPTIONS = {"table": "A", "parts": "", "rows": "", "seeds": "", "work": "outputs/accuracy", "show": False}
# Entries of a run's summary that are kept, beside its options.
KEPT = ("seed", "student", "teacher", "seconds", "images_per_second", "versions", "hardware", "score")


def block(name: str) -> str:
    """Return the table of this name for the documents."""
    return tabulated.markdown(read_table(name))


@dataclass(frozen=True)
class Job:
    """One run of a table."""

    table: Table
    part: str
    row: str
    seed: int

    @property
    def settings(self) -> list[str]:
        """The options of the run, without its paths."""
        return tabulated.settings(self.table, self.part, self.row, self.seed)

    @property
    def done(self) -> bool:
        """True if there are results of the same settings."""
        return tabulated.record(self.table, self.part, self.row, self.seed) is not None

    def keep(self, figures: Record) -> None:
        """Write the results of the run; a table without test images leaves out the results on them.

        Raises:
            InputError: the run has other data or another teacher than earlier runs of the part.
        """
        for other in tabulated.records(self.table, self.part):
            if odd := tabulated.apart(figures, other):
                raise InputError(
                    f"{self.part}, {self.row}, seed {self.seed}: has {odd} than {other['row']}, seed {other['seed']}; "
                    f"move {self.table.results / self.table.name / self.part} away to run the part anew"
                )
        student = {k: v for k, v in figures["student"].items() if k != "test" or not self.table.validation_only}
        file = record_file(self.table, self.part, self.row, self.seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        own = {"settings": self.settings, "row": self.row, "part": self.part}
        write_json(file, own | {k: v for k, v in figures.items() if k not in own} | {"student": student})


def jobs(table: Table, options: DictConfig) -> Iterator[Job]:
    """Yield a table's runs, seed by seed, and for each seed row by row."""
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


def run(job: Job, work: Path, options: Sequence[str] = ()) -> None:
    """Start or resume a job, and write its results.

    Args:
        job: a run of a table.
        work: folder of the runs.
        options: more options of the train command, which do not change the results.
    """
    data = Path(os.environ.get("STKD_DATA", "data")).absolute()
    name = record_file(job.table, job.part, job.row, job.seed).stem
    folder = work / job.table.name / job.part / f"{name}-{key_of(job.settings)}"  # one folder for each setting
    places = [f"dataset.data_dir={data}", f"hydra.run.dir='{folder}'", "resume=auto", "logger=csv", *options]
    command = [sys.executable, "-m", "stkd_lightning.train", *job.settings, *places]
    start = time.monotonic()
    log = work / f"{job.table.name}.log"
    with log.open("a") as written, subprocess.Popen(command, stdout=written, stderr=written) as child:
        try:
            code = child.wait()
        except SystemExit as asked_to:  # the run saves its state; wait for it
            if asked_to.code != 128 + signal.SIGINT:  # a terminal sends SIGINT to the run as well
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
    score = (summary["student"]["validation"] or summary["student"]["test"]["last"])[tabulated.score_name(summary)]
    print(f"{job.part}, {job.row}, seed {job.seed}: {score:.2%} in {took:.1f} min", flush=True)


def asked() -> tuple[DictConfig, Table, list[Job]]:
    """Return the options of the command line, and the table and the runs that they name.

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
    """Run the missing runs of a table, and write the documents' tables, also after an interruption."""
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
        documents.write("accuracy")
    print(tabulated.markdown(table))


def main() -> None:
    """Run the missing runs of a table, and write the tables of the documents."""
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, _: sys.exit(128 + number))
    try:
        options, table, every = asked()
        if options.show:
            documents.write("accuracy")
        else:
            fill(table, every, Path(options.work).absolute())
    except InputError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
