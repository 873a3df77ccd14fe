"""Write ``report.html``, ``report.md`` and ``report.csv`` of finished runs."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from stkd_lightning.commands.config.checks import check_writable
from stkd_lightning.reporting.run import Run, find_runs, run_folder
from stkd_lightning.utilities.console import print_rank_zero, warn
from stkd_lightning.utilities.errors import reason
from stkd_lightning.utilities.files import write_text
from stkd_lightning.utilities.text import first_and_more

FILES = "report.html, report.md, report.csv"


def report(config: DictConfig) -> None:
    """Run a composed ``report.yaml``.

    Args:
        config: the checked configuration.

    Raises:
        InputError: a folder does not exist, contains no finished run that can be read, or cannot be written.
    """
    paths = [Path(str(path)) for path in (config.runs if isinstance(config.runs, ListConfig) else [config.runs])]
    folders = [run_folder(path) for path in paths]
    search = find_runs(folders)
    output = folders[0] if config.output is None else Path(str(config.output))
    check_writable(output)
    for line in search.damaged:
        warn(f"{line}; the report leaves this run out")
    write_report(
        search.runs,
        output,
        str(config.reference),
        trust=config.trust,
        complete=config.complete,
        latency=config.latency,
        unfinished=search.unfinished,
        damaged=search.damaged,
        cache_dir=config.cache_dir,
    )
    print_rank_zero(f"{output}: {FILES}")


def write_report(
    runs: Sequence[Run],
    output: Path,
    reference: str,
    *,
    trust: bool,
    complete: bool = True,
    in_time: bool = False,
    latency: bool = True,
    unfinished: Sequence[Path] = (),
    damaged: Sequence[str] = (),
    cache_dir: str | None = None,
) -> None:
    """Write the three files of a report.

    Args:
        runs: at least one finished run.
        output: folder of the report; created if it does not exist.
        reference: method with which the others are compared.
        trust: also build classes of the configurations that are not part of this project.
        complete: write missing diagnostics, if the data are on this machine.
        in_time: take no longer for them than a run does at its end; none for ``diagnostics=false``.
        latency: measure the time of each network for one image.
        unfinished: folders of unfinished runs, which the report lists.
        damaged: a line for each run that cannot be read, which the report lists.
        cache_dir: folder of prepared data; ``None``: the default folder.
    """
    from stkd_lightning.commands.latency import measure
    from stkd_lightning.reporting.html import page
    from stkd_lightning.reporting.report import make_report, report_csv, report_markdown

    if complete:
        complete_diagnostics(runs, trust=trust, cache_dir=cache_dir, in_time=in_time)
    report = make_report(runs, reference, measure(runs, trust=trust) if latency else {}, unfinished, damaged)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "report.csv", report_csv(report))
    write_text(output / "report.md", report_markdown(report))
    write_text(output / "report.html", page(report))


def complete_diagnostics(
    runs: Sequence[Run], *, trust: bool, cache_dir: str | None = None, in_time: bool = False
) -> None:
    """Write the missing or shortened diagnostics of runs whose students, data and teacher are on this machine.

    A run without a teacher, for example by cross-entropy, is compared with the teacher of another run on the same data
    and networks. An error is only a warning.

    Args:
        runs: finished runs.
        trust: also build classes that are not part of this project.
        cache_dir: folder of prepared data; ``None``: the default folder.
        in_time: leave shortened and unwanted diagnostics, and limit the time for others as at the end of a run.
    """
    from stkd_lightning.commands.diagnose import diagnose_run, time_limit

    measured = (run for run in runs if run.summary.teacher and run.summary.teacher.test)
    teachers = {run.group: run for run in measured if run.summary.teacher_checkpoint}
    missing: dict[str, list[Path]] = {}  # folders by the reason
    for run in runs:
        teacher, diagnostics = teachers.get(run.group), run.diagnostics
        is_missing = diagnostics is None or (teacher and not diagnostics.has_teacher)
        is_short = diagnostics is not None and not diagnostics.is_whole and not in_time
        would_lose = diagnostics is not None and diagnostics.has_teacher and teacher is None  # it cannot be built here
        is_unwanted = in_time and run.config.get("diagnostics") is False
        if run.folder and (is_missing or (is_short and not would_lose)) and not is_unwanted:
            seconds = time_limit(run.summary.seconds) if in_time else None
            try:
                diagnose_run(run, teacher, trust=trust, cache_dir=cache_dir, seconds=seconds)
            except Exception as error:  # a configuration, a network or data can raise anything
                cause = reason(error).replace(f"{run.folder}/", "")
                missing.setdefault(cause, []).append(run.folder)
    for cause, folders in missing.items():  # one line for all runs with the same fault
        warn(f"{first_and_more(folders)}: some figures are missing ({cause})")
