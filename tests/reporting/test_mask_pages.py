"""Figures and tables of segmentation runs."""

import csv
import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stkd_lightning.reporting.comparison import compare, markdown
from stkd_lightning.reporting.figures import pictures, png, svg
from stkd_lightning.reporting.figures.matrices import matrices
from stkd_lightning.reporting.grouping import settings
from stkd_lightning.reporting.html import page
from stkd_lightning.reporting.report import make_report, report_csv, report_markdown
from stkd_lightning.reporting.run import Run
from stkd_lightning.reporting.segmentation_diagnostics import SegmentationDiagnostics
from stkd_lightning.reporting.summary import table
from stkd_lightning.tasks import Segmentation
from stkd_lightning.utilities.console import PlainConsole
from tests.reporting.mask_runs import CLASSES, SIZES, mask_run
from tests.reporting.runs import run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("masks")
    return [mask_run(folder / f"{loss}{seed}", loss, seed) for loss in ("kd", "dsd") for seed in (0, 1, 2)]


def test_pictures_of_segmentation(runs: list[Run]) -> None:
    drawn = {p.name: p for p in pictures(settings(runs))}
    assert list(drawn) == ["curves", "class_iou", "category_similarity", "mask_gallery"]
    for picture in drawn.values():
        assert png(picture.figure, 40).startswith(b"\x89PNG")
        assert picture.caption.endswith(".")
        ElementTree.fromstring(svg(picture.figure))
    assert drawn["curves"].figure.axes[0].get_ylabel() == "validation mIoU, %"


def test_mask_gallery_has_a_column_for_each_network(runs: list[Run]) -> None:
    (gallery,) = (p for p in pictures(settings(runs)) if p.name == "mask_gallery")
    assert "(dsd, seed 0)" in gallery.caption  # the best on validation images
    heads = [axis.get_title() for axis in gallery.figure.axes[:5]]
    assert heads == ["image", "truth", "teacher", "student", "errors"]
    assert len(gallery.figure.axes) == 6 * 5
    labels = [text.get_text() for text in gallery.figure.legends[0].get_texts()]
    assert labels == ["sky", "<b>road</b>", "a tree with a v…e indeed"]
    assert gallery.figure.axes[0].get_ylabel().startswith("lowest\n")


def test_class_iou_shows_teacher_alone_and_students(runs: list[Run]) -> None:
    (drawn,) = (p for p in pictures(settings(runs)) if p.name == "class_iou")
    (axis,) = drawn.figure.axes
    lines = {line.get_label(): line.get_xdata() for line in axis.get_lines()}
    assert list(lines) == ["teacher", "alone", "kd", "dsd"]
    rows = [label.get_text() for label in axis.get_yticklabels()]
    figures = [r.summary.student.test["selected"]["iou/sky"] for r in runs[3:]]
    assert lines["dsd"][rows.index("sky")] == pytest.approx(100 * sum(figures) / 3)
    teacher = runs[0].summary.networks["teacher"].test["last"]
    assert lines["teacher"][rows.index("sky")] == pytest.approx(100 * teacher["iou/sky"])


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (tuple(f"class {i}" for i in range(150)), SIZES),
        (("background", "thing"), SIZES),
        (CLASSES, SIZES[:1]),
        (CLASSES, ((300, 20), (20, 300))),
    ],
    ids=["many classes", "two classes", "one image", "long images"],
)
@pytest.mark.filterwarnings("error")
def test_odd_segmentation_runs_are_drawn(
    names: tuple[str, ...], sizes: tuple[tuple[int, int], ...], tmp_path: Path
) -> None:
    drawn = {p.name: p for p in pictures(settings([mask_run(tmp_path / "run", "kd", names=names, sizes=sizes)]))}
    assert list(drawn) == ["curves", "class_iou", "category_similarity", "mask_gallery"]
    for picture in drawn.values():
        assert png(picture.figure, 30).startswith(b"\x89PNG")
    rows = drawn["class_iou"].figure.axes[0].get_yticklabels()
    assert len(rows) == min(40, len(names))
    assert ("40 classes of the lowest IoU of 150" in drawn["class_iou"].caption) == (len(names) == 150)


def test_two_classes_have_no_rank_correlation(tmp_path: Path) -> None:
    one = mask_run(tmp_path / "run", "kd", names=("a", "b"))
    diagnostics = one.diagnostics_of(SegmentationDiagnostics)
    assert diagnostics is not None
    figure = matrices(diagnostics.teacher_similarity, [("kd", diagnostics.student_similarity)], ("a", "b"))
    assert [axis.get_title() for axis in figure.axes[:2]] == ["teacher", "kd"]


def test_tables_name_the_score_of_segmentation(runs: list[Run]) -> None:
    report = make_report(runs, "kd", {})
    (answer,) = (r.answer for r in report.recommendations)
    assert answer.startswith("dsd has the highest validation mIoU: 50.00 ± 0.00 % over 3 seeds.")
    (cautions,) = (" ".join(r.cautions) for r in report.recommendations)
    assert "There are only 100 validation images: their choice alone gives an image IoU of 55.00 %" in cautions
    assert "an interval of ± 3.9 points (95 %)" in cautions  # 1.96 * sqrt(0.04 / 100)
    text = report_markdown(report)
    assert "Scores are mIoU, %: mean ± standard deviation over n seeds." in text
    assert "accuracy" not in text
    html = page(report)
    for heading in ("pixels", "image IoU", "&gt; 90 %", "variance"):
        assert f"<button>{heading}</button>" in html
    assert "<button>ECE</button>" not in html
    assert "<b>road" not in html
    line, *_ = csv.DictReader(io.StringIO(report_csv(report)))
    assert float(line["test_last"]) == pytest.approx(0.51)
    assert float(line["pixel_accuracy"]) == pytest.approx(0.8)
    assert float(line["quality_variance"]) == pytest.approx(0.04)


def test_a_report_of_two_tasks_names_both_scores(runs: list[Run]) -> None:
    both = [*runs, run("kd", 0, 0.7)]
    report = make_report(both, "kd", {})
    text = report_markdown(report)
    assert "Scores are mIoU, % or accuracy, %:" in text
    assert "| digits, resnet20 → resnet8 | kd | 1 | 50.00 | 70.00 | 69.00 |  |" in markdown(compare(both, "kd"), "kd")
    html = page(report)
    assert "<button>ECE</button>" in html
    assert "<button>pixels</button>" in html
    assert html.count("<tr>") == 1 + len(report.rows)


def test_table_of_a_run_fits_a_terminal(runs: list[Run]) -> None:
    """Names give way on 80 columns; numbers are whole."""
    summary = runs[0].summary
    teacher = replace(summary.networks["teacher"], parameters=1_820_963, flops=2_791_900_000)
    console = PlainConsole(width=80, record=True, file=io.StringIO())
    console.print(table(replace(summary, teacher=teacher), Segmentation(CLASSES)))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    for words in ("1,820,963", "2,792", "teacher", "image IoU", "70.00"):
        assert words in text
