import json
from dataclasses import asdict
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from stkd_lightning.commands.comparison import Comparison
from stkd_lightning.reporting.comparison import compare, headings, markdown
from stkd_lightning.reporting.grouping import settings
from stkd_lightning.reporting.statistics import Spread, image_interval
from tests.reporting.runs import run, written

RUNS = [
    run("kd", 0, 0.70), run("kd", 1, 0.72), run("kd", 2, 0.71),
    run("sp", 0, 0.71), run("sp", 1, 0.75), run("sp", 2, 0.73),
]  # fmt: skip


def test_mean_deviation_and_paired_difference() -> None:
    """Differences 0.01, 0.03, 0.02: mean 0.02, deviation 0.01, and 4.303 is Student's 97.5 % point of 2 degrees."""
    kd, sp = compare(RUNS, "kd")
    assert (kd.label, sp.label, sp.seeds) == ("kd", "sp", [0, 1, 2])
    assert sp.last.mean == pytest.approx(0.73)
    assert sp.last.std == pytest.approx(0.02)
    assert sp.selected.mean == pytest.approx(0.72)
    assert kd.difference is None
    assert sp.difference is not None
    assert sp.difference.mean == pytest.approx(0.02)
    assert sp.difference.half_interval == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-4)


def test_two_seeds_have_no_interval() -> None:
    assert Spread.of([0.1, 0.2]).half_interval is None
    assert Spread.of([0.1, 0.2]).points() == "+15.00"
    assert Spread.of([0.1, 0.2, 0.3]).half_interval == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)


def test_image_interval_is_wilsons() -> None:
    """Of 81 in 263: 0.2553 to 0.3662 (Newcombe 1998, Table I)."""
    assert image_interval(81 / 263, 263) == pytest.approx((0.3662 - 0.2553) / 2, abs=1e-4)
    assert image_interval(1.0, 100) > 0.01


def test_a_difference_of_nothing_has_no_sign() -> None:
    assert Spread(-1e-9, None, 1).points() == "+0.00"
    assert Spread(-0.012, None, 1).points() == "-1.20"


def test_only_common_seeds_are_paired() -> None:
    _, sp = compare([run("kd", 0, 0.7), run("sp", 0, 0.8), run("sp", 5, 0.1)], "kd")
    assert sp.difference == Spread(pytest.approx(0.1), None, 1)


def test_each_setting_is_compared_with_the_reference_of_its_own() -> None:
    runs = [
        run(loss, 0, 0.5 + 0.1 * i + 0.01 * (loss == "sp"), mixup__alpha=i) for i in (0, 1) for loss in ("kd", "sp")
    ]
    rows = compare(runs, "kd")
    assert [row.label for row in rows] == [f"{m}, mixup.alpha={i}" for i in (0, 1) for m in ("kd", "sp")]
    assert [row.difference.mean if row.difference else None for row in rows] == pytest.approx([None, 0.01, None, 0.01])


def test_a_seed_of_its_own_for_the_share_of_images_is_a_setting() -> None:
    given = [run("kd", 0, 0.9, dataset__train_fraction=0.1, dataset__train_seed=draw) for draw in range(3)]
    assert [row.last.n for row in compare(given, "kd")] == [1, 1, 1]
    followed = [run("kd", seed, 0.9, dataset__train_fraction=0.1) for seed in range(3)]
    for one in followed:
        one.config["dataset"]["train_seed"] = one.seed
    assert [row.last.n for row in compare(followed, "kd")] == [3]


def test_methods_own_options_may_differ_but_nothing_else() -> None:
    """A sweep over STKD's alpha has one KD to be compared with; another learning rate has none."""
    swept = [run("stkd", 0, 0.6, loss__alpha=a, optimizer__lr=0.1) for a in (0.5, 0.9)]
    reference = run("kd", 0, 0.5, loss__alpha=0.9, optimizer__lr=0.1)
    other = run("stkd", 0, 0.9, loss__alpha=0.9, optimizer__lr=0.2)
    rows = compare([*swept, reference, other], "kd")
    found = {row.label: row.difference.mean if row.difference else None for row in rows}
    assert found == {
        "stkd, loss.alpha=0.5, optimizer.lr=0.1": pytest.approx(0.1),
        "stkd, loss.alpha=0.9, optimizer.lr=0.1": pytest.approx(0.1),
        "kd": None,
        "stkd, loss.alpha=0.9, optimizer.lr=0.2": None,
    }


def test_equal_numbers_are_one_setting_however_they_are_written() -> None:
    (row,) = compare([run("stkd", 0, 0.6, loss__temperature=4), run("stkd", 1, 0.7, loss__temperature=4.0)], "kd")
    assert (row.label, row.seeds) == ("stkd", [0, 1])


def test_what_follows_an_option_is_not_told() -> None:
    runs = [run("kd", 0, 0.5, optimizer__lr=rate) for rate in (0.1, 0.2)]
    for one in runs:
        one.config["teacher"]["lr"] = one.config["optimizer"]["lr"]
    assert [s.label for s in settings(runs)] == ["kd, optimizer.lr=0.1", "kd, optimizer.lr=0.2"]


def test_networks_and_data_are_kept_apart() -> None:
    runs = [run("kd", 0, 0.5), run("sp", 0, 0.6, student="resnet14"), run("kd", 0, 0.7, data="cifar100")]
    rows = compare(runs, "kd")
    assert [row.difference for row in rows] == [None] * 3
    assert "| digits, resnet20 → resnet14 | sp |" in markdown(rows, "kd")


def test_the_later_of_two_runs_of_one_seed_counts() -> None:
    (row,) = compare([run("kd", 0, 0.5), run("kd", 0, 0.6)], "kd")
    assert (row.last.mean, row.seeds) == (0.6, [0])


def test_a_sweep_of_one_method_has_no_differences() -> None:
    rows = compare([run("stkd", 0, 0.5, loss__alpha=a) for a in (0.1, 0.9)], "kd")
    assert [(row.label, row.difference) for row in rows] == [
        ("stkd, loss.alpha=0.1", None),
        ("stkd, loss.alpha=0.9", None),
    ]


def test_without_validation_images() -> None:
    (row,) = compare([run("kd", 0, 0.5, validation=None)], "kd")
    assert (row.label, row.validation) == ("kd", None)


def test_the_table_is_markdown() -> None:
    lines = markdown(compare(RUNS, "kd"), "kd").splitlines()
    assert [line.count("|") for line in lines] == [len(headings("kd")) + 1] * 4
    assert lines[-1] == "| sp | 3 | 50.00 ± 0.00 | 73.00 ± 2.00 | 72.00 ± 2.00 | +2.00 ± 2.48 |"


def test_files_are_kept_beside_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = Comparison("kd", report=False)
    runs = [written(one, tmp_path / str(i)) for i, one in enumerate(RUNS)]
    config = OmegaConf.create({"hydra": {"mode": "MULTIRUN", "sweep": {"dir": str(tmp_path)}}})
    callback.on_multirun_end(config)
    assert json.loads((tmp_path / "comparison.json").read_text()) == {
        "reference": "kd",
        "rows": [{"label": row.label, **asdict(row)} for row in compare(runs, "kd")],
    }
    assert (tmp_path / "comparison.md").read_text() == markdown(compare(runs, "kd"), "kd")
    assert "comparison.md" in capsys.readouterr().out
    assert not (tmp_path / "report.html").exists()
