"""The page at the end of a multirun, in a browser, and the command that makes it again."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

from stkd_lightning.reporting.diagnostics import read_diagnostics
from tests.conftest import Command

SHORT = ["trainer.max_epochs=2", "teacher.max_epochs=3", "teacher.min_accuracy=0", "baseline=false", "logger=csv"]
METHODS = ["ce", "ce_mixup", "kd", "stkd"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium: the system's, or Playwright's own."""
    system = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        except Error:
            pytest.skip("no Chromium is here: the report was not looked at in a browser")
        yield started
        started.close()


def column(page: Page, number: int) -> list[str]:
    return page.locator(f"tbody td:nth-child({number})").all_text_contents()


def click(page: Page, heading: str) -> None:
    page.locator("th button", has_text=heading).click()


def check_pictures(page: Page) -> None:
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(s => [s.getBoundingClientRect().width, s.getBBox().height])"
    )
    assert len(boxes) in (13, 14)  # no image may be right for the teacher only
    assert all(width > 250 and height > 100 for width, height in boxes)
    within = page.evaluate(
        "Promise.all([...document.querySelectorAll('image')].map(i => { const d = new Image();"
        " d.src = i.href.baseVal; return d.decode().then(() => d.naturalWidth > 0); }))"
    )
    assert within
    assert all(within)


def check_table(page: Page) -> None:
    assert column(page, 1) == METHODS
    click(page, "test, selected")
    values = [float(text.split()[0]) for text in column(page, 5)]
    assert values == sorted(values, reverse=True)
    click(page, "test, selected")
    assert [float(text.split()[0]) for text in column(page, 5)] == sorted(values)
    click(page, "method")
    assert column(page, 1) == sorted(METHODS)
    click(page, "- kd")
    assert column(page, 1)[-1] == "kd"  # which has no difference to itself


def check_colours(page: Page, scheme: str) -> None:
    ink, ground = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    brightness = [sum(int(c) for c in colour[4:-1].split(",")) for colour in (ink, ground)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
    assert page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill") == ink


def watched(page: Page) -> tuple[list[str], list[str]]:
    """Return lists that fill with what a page complains of and what it asks for."""
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    return complaints, requests


def look(browser: Browser, path: Path) -> None:
    """Open a report as a phone and a desktop do, in light and dark."""
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for width in (390, 1280):
        for scheme in schemes:
            context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
            page = context.new_page()
            complaints, requests = watched(page)
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            check_colours(page, scheme)
            check_pictures(page)
            check_table(page)
            assert (complaints, requests) == ([], [path.as_uri()])
            context.close()


@pytest.mark.slow
def test_the_ablation_ends_in_a_report(command: Command, browser: Browser, tmp_path: Path) -> None:
    """From an empty cache: what came before the teacher was trained is compared with it all the same."""
    done = command("train", "experiment=[quickstart,ablation]", *SHORT, "hydra.sweep.dir=sweep", "cache_dir=cache",
                   timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "sweep: report.html, report.md, report.csv" in done.stdout
    assert "warning" not in done.stdout
    assert all(read_diagnostics(tmp_path / "sweep" / str(i) / "diagnostics.npz").has_teacher for i in range(4))
    look(browser, tmp_path / "sweep" / "report.html")
    lines = list(csv.DictReader((tmp_path / "sweep" / "report.csv").open(newline="")))
    assert [line["method"] for line in lines] == METHODS
    assert all(float(line["latency_ms"]) > 0 for line in lines)

    shutil.rmtree(tmp_path / "cache")  # a report needs neither data nor teacher
    (tmp_path / "sweep" / "3" / "summary.json").unlink()
    again = command("report", "runs=sweep", "output=again", "latency=false", "reference=ce")
    assert again.returncode == 0, again.stderr
    text = (tmp_path / "again" / "report.md").read_text()
    assert "| - ce (95 %) |" in text
    assert "| stkd |" not in text
    assert "1 not finished: sweep/3" in (tmp_path / "again" / "report.html").read_text()
    for argument, words in (("runs=nowhere", "runs=nowhere: no such folder"), ("reports=x", "runs")):
        refused = command("report", argument)
        assert refused.returncode == 2
        assert words in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
