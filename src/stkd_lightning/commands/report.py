"""``report.html``, ``report.md`` and ``report.csv`` of finished runs."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, ListConfig
from rich.markup import escape

from stkd_lightning.commands.config.checks import check_writable
from stkd_lightning.reporting.run import Run, find_runs
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import reason
from stkd_lightning.utilities.files import write_text

FILES = "report.html, report.md, report.csv"


def report(config: DictConfig) -> None:
    """Run a composed ``report.yaml``.

    Args:
        config: resolved by Hydra.

    Raises:
        InputError: a folder that is not there or without a finished run, a damaged file, or a folder that cannot be
            written.
    """
    folders = [Path(str(f)) for f in (config.runs if isinstance(config.runs, ListConfig) else [config.runs])]
    found = find_runs(folders)
    output = folders[0] if config.output is None else Path(str(config.output))
    check_writable(output)
    report_of(
        found.runs,
        output,
        str(config.reference),
        trust=config.trust,
        complete=config.complete,
        latency=config.latency,
        unfinished=found.unfinished,
        cache_dir=config.cache_dir,
    )
    print_rank_zero(f"{output}: {FILES}")


def report_of(
    runs: Sequence[Run],
    output: Path,
    reference: str,
    *,
    trust: bool,
    complete: bool = True,
    latency: bool = True,
    unfinished: Sequence[Path] = (),
    cache_dir: str | None = None,
) -> None:
    """Write the three files of a report.

    Args:
        runs: at least one, finished.
        output: folder; made where it is not there.
        reference: the method to which others are compared.
        trust: build classes that are not this project's, as the runs' configurations say.
        complete: write the diagnostics that runs lack, where that can be done here.
        latency: measure what the networks take for an image.
        unfinished: folders of other runs, to be named.
        cache_dir: with prepared data; ``None``: the usual one.
    """
    from stkd_lightning.commands.latency import measure
    from stkd_lightning.reporting.html import page
    from stkd_lightning.reporting.report import make_report, report_csv, report_markdown

    if complete:
        completed(runs, trust=trust, cache_dir=cache_dir)
    made = make_report(runs, reference, measure(runs, trust=trust) if latency else {}, unfinished)
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "report.csv", report_csv(made))
    write_text(output / "report.md", report_markdown(made))
    write_text(output / "report.html", page(made))


def completed(runs: Sequence[Run], *, trust: bool, cache_dir: str | None = None) -> None:
    """Write the diagnostics that runs lack, where their students, their data and a teacher are here.

    A run without a teacher of its own, such as one by cross-entropy, is compared with the teacher of another run on the
    same data and networks. What cannot be made is a warning.

    Args:
        runs: finished.
        trust: build classes that are not this project's.
        cache_dir: with prepared data; ``None``: the usual one.
    """
    from stkd_lightning.commands.diagnose import diagnose_run

    teachers = {run.group: run for run in runs if run.summary.teacher_checkpoint}
    for run in runs:
        teacher, seen = teachers.get(run.group), run.diagnostics
        if run.folder and (seen is None or (teacher and not seen.has_teacher)):
            try:
                diagnose_run(run, teacher, trust=trust, cache_dir=cache_dir)
            except Exception as error:  # whatever somebody's configuration, network or data lead to
                words = escape(reason(error))
                print_rank_zero(f"[yellow]warning: {run.folder}: some of its pictures are left out ({words})[/yellow]")
