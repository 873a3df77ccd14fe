import csv
import io
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from matplotlib.backends.backend_agg import FigureCanvasAgg

from stkd_lightning.reporting.figures import best_settings, pictures, png, svg
from stkd_lightning.reporting.figures.fonts import fonts_for
from stkd_lightning.reporting.grouping import settings
from stkd_lightning.reporting.html import page
from stkd_lightning.reporting.report import Report, make_report, report_csv, report_markdown
from stkd_lightning.reporting.run import Run, find_runs
from stkd_lightning.utilities.errors import InputError
from tests.reporting.runs import run, written


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    few = [run(m, s, 0.7 + 0.02 * i + 0.01 * s, validation=0.6 + 0.05 * i) for i, m in enumerate(("ce", "kd", "stkd"))
           for s in (0, 1, 2)]  # fmt: skip
    return [written(one, folder / str(i)) for i, one in enumerate(few)]


def test_what_pictures_there_are(runs: list[Run]) -> None:
    drawn = {p.name: p for p in pictures(settings(runs))}
    of_classes = ["class_accuracy", "confusion", "outcomes"]
    assert list(drawn) == ["curves", *of_classes, "divergence", "mixtures", "similarity", "calibration", "gallery"]
    for picture in drawn.values():
        assert png(picture.figure, 40).startswith(b"\x89PNG")
        assert picture.caption.endswith(".")


def test_pictures_use_the_page_ink_and_equal_runs_draw_alike(runs: list[Run]) -> None:
    one, again = ([svg(p.figure) for p in pictures(settings(runs))] for _ in range(2))
    assert one == again
    for text in one:
        assert "currentColor" in text
        assert "mathdefault" not in text
        assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
        ElementTree.fromstring(text)


def test_sweep_of_two_numbers_is_a_heat_map_others_are_panels() -> None:
    grid = [run("stkd", 0, 0.5, validation=0.5 + a / 10, loss__alpha=a, loss__temperature=t) for a in (0.1, 0.9)
            for t in (1, 2, 4)]  # fmt: skip
    (heat_map,) = (p for p in pictures(settings(grid)) if p.name == "sweep_stkd")
    assert len(heat_map.figure.axes) == 1
    assert len(heat_map.figure.axes[0].texts) == 6
    assert "loss.alpha=0.9" in heat_map.caption
    (panels,) = (p for p in pictures(settings(grid[:-1])) if p.name == "sweep_stkd")
    assert [axis.get_xlabel() for axis in panels.figure.axes] == ["loss.alpha", "loss.temperature"]


def test_numbers_at_logarithmic_axes_are_plain() -> None:
    swept = [run("stkd", 0, 0.5, validation=0.5 + a / 100, loss__temperature=a) for a in (1.5, 4.2, 30.0)]
    small, large = (run("kd", 0, 0.5, student=name) for name in ("resnet8", "resnet110"))
    costly = replace(large.summary.student, parameters=10**7, flops=10**9)
    large = replace(large, summary=replace(large.summary, student=costly))
    report = make_report([*swept, small, large], "kd", {})
    for picture in [*report.overview, *(p for s in report.sections for p in s.pictures)]:
        assert "$" not in re.sub(r"<style.*?</style>", "", svg(picture.figure))
    assert ">2M<" in re.sub(r"\s", "", svg(report.overview[0].figure))


def test_nothing_is_drawn_of_what_is_not_known() -> None:
    assert pictures(settings([run("kd", 0, 0.5, validation=None)])) == []


def test_many_settings_are_drawn_by_the_best_of_each_method() -> None:
    swept = [run("stkd", 0, 0.5, validation=0.1 * i, loss__alpha=i / 10) for i in range(9)]
    every = settings([run("kd", 0, 0.5, validation=0.0), *swept])
    assert [s.label for s in best_settings(every, most=3)] == ["kd", "stkd, loss.alpha=0.7", "stkd, loss.alpha=0.8"]
    assert best_settings(every[:3], most=3) == every[:3]


def answers(report: Report) -> list[str]:
    return [" ".join([r.answer, *r.cautions]) for r in report.recommendations]


def test_the_answer_is_chosen_by_validation_images(runs: list[Run]) -> None:
    report = make_report(runs, "kd", {})
    (answer,) = answers(report)
    assert answer == (
        "stkd has the highest validation accuracy: 70.00 ± 0.00 % over 3 seeds. On test images it has 75.00 ± 1.00 %; "
        "the teacher has 90.00 % with 4.0 times the parameters. These are figures of the last students. The selected "
        "students, which are exported, have 74.00 ± 1.00 % on test images."
    )
    assert report.recommendations[0].run.folder == runs[6].folder


def test_the_answer_tells_its_doubts() -> None:
    one = [run("kd", 0, 0.7, validation=0.5), run("stkd", 0, 0.6, validation=0.6)]
    assert "With one seed, a difference may be chance" in answers(make_report(one, "kd", {}))[0]
    worse = [run(m, s, last, validation=v) for s in (0, 1, 2)
             for m, last, v in (("kd", 0.7 + s / 1000, 0.5), ("sp", 0.6, 0.6))]  # fmt: skip
    assert (
        "On test images the last students are below kd, seed by seed: -10.10 ± 0.25 points (95 %)."
        in answers(make_report(worse, "kd", {}))[0]
    )
    chance = [run(m, s, 0.7 + (m == "sp") * (s - 0.9) / 10, validation=0.5 + (m == "sp") / 10) for s in (0, 1, 2)
              for m in ("kd", "sp")]  # fmt: skip
    assert "may be chance: +1.00 ± 24.84 points (95 %)" in answers(make_report(chance, "kd", {}))[0]
    alone = [run("sp", s, 0.5) for s in (0, 1)]
    assert "There is no run of kd with the same seeds and settings" in answers(make_report(alone, "kd", {}))[0]
    common = [run("kd", 0, 0.9, validation=0.5), *(run("sp", s, 0.6, validation=0.6) for s in (0, 1, 2))]
    (answer,) = answers(make_report(common, "kd", {}))
    assert "It shares one seed with kd: the difference of -30.00 points may be chance." in answer
    two = [run(m, s, 0.6 + (m == "sp") / 10, validation=0.5 + (m == "sp") / 10) for s in (0, 1) for m in ("kd", "sp")]
    (answer,) = answers(make_report(two, "kd", {}))
    assert "With two seeds, a difference may be chance, and no interval is shown: run seed=0,1,2." in answer
    assert "It shares two seeds with kd: the difference of +10.00 points may be chance." in answer
    best = [run(m, s, 0.7 + (m == "sp") * (s - 0.9) / 10, validation=0.6 - (m == "sp") / 10) for s in (0, 1, 2)
            for m in ("kd", "sp")]  # fmt: skip
    (answer,) = answers(make_report(best, "kd", {}))
    assert "sp is second and may be as good: +1.00 ± 24.84 points to kd (95 %)" in answer
    many = [run("stkd", 0, 0.5, validation=0.5, loss__alpha=i / 10) for i in range(9)]
    assert (
        "It is the best of 9 settings on the same images, so its validation accuracy is too optimistic."
        in answers(make_report(many, "stkd", {}))[0]
    )
    assert "Equal validation accuracy: stkd, loss.alpha=0.1" in answers(make_report(many, "stkd", {}))[0]


def test_the_answer_doubts_few_images() -> None:
    one = run("kd", 0, 0.9, validation=0.5)
    one = replace(one, summary=replace(one.summary, images={"validation": 5000, "test": 100}))
    (answer,) = answers(make_report([one], "kd", {}))
    words = (
        "There are only 100 test images: their choice alone gives an accuracy of 90.00 % an interval of ± 6.0 points"
    )
    assert words in answer
    assert "validation images:" not in answer


def test_last_and_selected_students_have_sentences_of_their_own(runs: list[Run]) -> None:
    text = report_markdown(make_report(runs, "kd", {}))
    for sentence in re.split(r"(?<=[.]) ", text[: text.index("| ")]):
        assert not ("last student" in sentence and "selected" in sentence), sentence


@pytest.mark.filterwarnings("error")
def test_class_names_of_any_script_are_drawn(tmp_path: Path) -> None:
    """In SVG a browser finds the font; in PNG a character that no font has is an escape."""
    names = ("猫", "नमस्ते", "🐈", "Zoë\x1b\udce9")
    one = run("kd", 0, 0.5)
    one = replace(one, summary=replace(one.summary, data=replace(one.summary.data, class_names=names)))
    drawn = pictures(settings([written(one, tmp_path / "run")]))
    text = "".join(svg(p.figure) for p in drawn)
    assert all(name in text for name in (*names[:3], r"Zoë\x1b\udce9"))
    for picture in drawn:
        assert png(picture.figure, 40).startswith(b"\x89PNG")
        FigureCanvasAgg(picture.figure).draw()  # as dashboards do, outside of this project's style
    (similarity,) = (p.figure for p in drawn if p.name == "similarity")
    labels = {label.get_text() for label in similarity.axes[0].get_yticklabels()}
    assert {"猫", r"\u732b"} & labels
    assert escapes(fonts_for("猫")) == labels & {"猫", r"\u732b"}


def escapes(families: list[str]) -> set[str]:
    return {"猫"} if families else {r"\u732b"}


def test_without_validation_images_nothing_is_chosen() -> None:
    report = make_report([run("kd", 0, 0.7, validation=None)], "kd", {})
    assert report.recommendations == []
    assert "No recommendation: there are no validation images" in page(report)


def test_the_command_to_take_a_student_with_you_is_one(tmp_path: Path) -> None:
    """Quoted for Hydra and for the shell, whatever the folder is called."""
    for name, words in (("a/3", "checkpoint=a/3"), ("it is, a=1", "checkpoint='it is, a=1'")):
        folder = Path(name)
        one = run("kd", 0, 0.5)
        (found,) = make_report([Run(one.summary, one.config, folder)], "kd", {}).recommendations
        assert shlex.split(found.command)[3:] == [words, "output=student"]
        overrides = OverridesParser.create().parse_overrides(shlex.split(found.command)[3:4])
        assert overrides[0].value() == name


def test_settings_of_different_teachers_or_choices_are_apart() -> None:
    runs = [run("kd", 0, 0.5 + i / 10, teacher__checkpoint=f"{i}.pth") for i in (1, 2)]
    assert [s.label for s in settings(runs)] == ["kd, teacher.checkpoint=1.pth", "kd, teacher.checkpoint=2.pth"]
    chosen = [run("kd", 0, 0.5, optimizer__name=name, loss__alpha=a) for name in ("sgd", "adamw") for a in (0.5, 0.9)]
    for i, one in enumerate(chosen):
        name = one.config["optimizer"].pop("name")
        one.config["optimizer"] = {"_target_": f"torch.optim.{name}"}
        overrides = (f"optimizer={name}", f"loss.alpha={one.config['loss']['alpha']}", "seed=0")
        chosen[i] = replace(one, summary=replace(one.summary, overrides=overrides))
    assert [s.label for s in settings(chosen)] == [
        f"kd, optimizer={name}, loss.alpha={a}" for name in ("sgd", "adamw") for a in (0.5, 0.9)
    ]


def test_method_with_another_network_is_compared_as_well() -> None:
    plain, other = run("kd", 0, 0.5), run("simkd", 0, 0.6)
    plain.config["distilled"] = None
    other.config["distilled"] = {"_target_": "stkd_lightning.models.reuse_classifier"}
    both = settings([plain, other])
    assert [s.find_reference(both, "kd") is not None for s in both] == [False, True]


def test_pairs_of_networks_are_told_apart_in_the_overview() -> None:
    runs = [run(m, 0, 0.5, student=n) for n in ("resnet8", "resnet14") for m in ("kd", "stkd")]
    (overview,) = make_report(runs, "kd", {}).overview
    labels = [text.get_text() for text in overview.figure.legends[0].get_texts()]
    assert len(set(labels)) == len(labels) == 5
    assert "resnet20 → resnet14, stkd" in labels


def test_the_table_for_programs(runs: list[Run]) -> None:
    lines = list(csv.DictReader(io.StringIO(report_csv(make_report(runs, "kd", {("resnet8", 100, 2000): 0.25})))))
    assert [line["method"] for line in lines] == ["ce", "kd", "stkd"]
    assert (lines[2]["seeds"], lines[2]["teacher"], lines[2]["latency_ms"]) == ("0 1 2", "resnet20", "0.25")
    assert float(lines[2]["test_last"]) == pytest.approx(0.75)
    assert float(lines[2]["difference"]) == pytest.approx(0.02)
    assert lines[1]["difference"] == ""


def test_the_page_is_one_file_and_escapes_what_it_is_told(runs: list[Run]) -> None:
    """A class, a method or a data set may have a name that is HTML."""
    hostile = [run("<script>alert(1)</script>", 0, 0.5, data="<img src=x onerror=alert(1)>", student="a")]
    text = page(make_report([*runs, *hostile], "kd", {}))
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert" in text
    assert "<b>" not in text
    assert not re.findall(r'(?:src|href)="(?!#)(?!data:)[^"]+', text)
    assert "default-src 'none'" in text
    (drawn,) = make_report(hostile, "kd", {}).overview
    assert "<script>" not in svg(drawn.figure)


def test_names_are_neither_markup_nor_formulas() -> None:
    hostile = [run("=1+1", 0, 0.5, data="@SUM(A1)", student="<img src=x>|**b**"), run("-3", 0, 0.4, loss__a="\x1b[31m")]
    report = make_report(hostile, "[kd](http://x)", {})
    lines = list(csv.DictReader(io.StringIO(report_csv(report))))
    assert [(line["method"], line["data"]) for line in lines] == [("'=1+1", "'@SUM(A1)"), ("-3", "digits")]
    assert lines[0]["reference"] == "[kd](http://x)"
    text = report_markdown(report)
    assert r"\<img src=x\>\|\*\*b\*\*" in text
    assert "\x1b" not in text + report_csv(report) + page(report)
    assert "[kd](" not in text


def test_runs_are_found_at_any_depth_in_order_of_their_numbers(runs: list[Run], tmp_path: Path) -> None:
    for name in ("10", "9", "inner/2"):
        written(run("kd", 0, 0.5), tmp_path / name)
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    (tmp_path / "begun" / "config.yaml").write_text("seed: 0\n")
    found = find_runs([tmp_path, tmp_path / "9"])
    assert [str(r.folder.relative_to(tmp_path)) for r in found.runs if r.folder] == ["inner/2", "9", "10"]
    assert [p.name for p in found.unfinished] == ["begun"]


def test_runs_are_found_in_folders_of_any_name_and_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = tmp_path / os.fsdecode(b"caf\xe9 \x1b[31m")
    written(run("kd", 0, 0.5), strange)
    (strange / "loop").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for _ in range(1500):  # deeper than Python's stack
        os.mkdir("a")
        os.chdir("a")
    (found,) = find_runs([tmp_path]).runs
    for _ in range(1500):  # which pytest cannot remove
        os.chdir("..")
        os.rmdir("a")
    report = make_report([found], "kd", {}, unfinished=[strange])
    for text in (page(report), report_markdown(report), report_csv(report)):
        assert text.encode()
        assert "\x1b" not in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("summary.json", "{"),
        ("summary.json", "[]"),
        ("summary.json", '{"seed": 0}'),
        ("config.yaml", "a: [b"),
        ("config.yaml", "!!python/object/apply:os.system ['touch pwned']"),
        ("config.yaml", "text"),
        ("metrics.csv", "epoch,val/accuracy\n1,high\n"),
    ],
)
def test_a_damaged_run_is_named(name: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(run("kd", 0, 0.5), tmp_path / "one")
    (tmp_path / "one" / name).write_text(content)
    with pytest.raises(InputError, match=rf"no finished run .*; 1 cannot be read: \S*one/{name}: damaged \("):
        find_runs([tmp_path])
    written(run("kd", 1, 0.5), tmp_path / "other")
    found = find_runs([tmp_path])
    assert [run.seed for run in found.runs] == [1]
    assert len(found.damaged) == 1
    report = make_report(found.runs, "kd", {}, damaged=found.damaged)
    for text in (page(report), report_markdown(report)):
        assert f"one/{name}: damaged" in text
    assert not (tmp_path / "pwned").exists()


def test_large_metrics_are_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The accuracies of a long run come from its summary; only its curves are left out."""
    monkeypatch.setattr("stkd_lightning.reporting.curves.LIMIT", 10)
    one = written(run("kd", 0, 0.5), tmp_path / "one")
    assert one.curves.validation == {}
    assert "too large for curves" in capsys.readouterr().out


def test_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find_runs([tmp_path / "nowhere"])
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    (tmp_path / "begun" / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(InputError, match=r"no finished run .* 1 unfinished: continue with resume=auto"):
        find_runs([tmp_path])
