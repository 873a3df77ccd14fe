import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from stkd_lightning.reporting.comparison import Spread, compare, headings, markdown
from stkd_lightning.runs.comparison import Comparison


def summary(loss: str, seed: int, last: float, *more: str, validation: float | None = 0.5) -> dict[str, Any]:
    figures: dict[str, Any] = {"test": {"last": {"accuracy": last}, "selected": {"accuracy": last - 0.01}}}
    figures["validation"] = {} if validation is None else {"accuracy": validation}
    return {"loss": loss, "seed": seed, "overrides": [f"loss={loss}", f"seed={seed}", *more], "student": figures}


RUNS = [
    summary("kd", 0, 0.70), summary("kd", 1, 0.72), summary("kd", 2, 0.71),
    summary("sp", 0, 0.71), summary("sp", 1, 0.75), summary("sp", 2, 0.73),
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


def test_only_common_seeds_are_paired() -> None:
    _, sp = compare([summary("kd", 0, 0.7), summary("sp", 0, 0.8), summary("sp", 5, 0.1)], "kd")
    assert sp.difference == Spread(pytest.approx(0.1), None, 1)


def test_each_setting_is_compared_with_the_reference_of_its_own() -> None:
    runs = [summary(loss, 0, 0.5 + 0.1 * i + 0.01 * (loss == "sp"), f"mixup.alpha={i}", "logger=csv")
            for i in (0, 1) for loss in ("kd", "sp")]  # fmt: skip
    rows = compare(runs, "kd")
    assert [row.label for row in rows] == [f"loss={m}, mixup.alpha={i}" for i in (0, 1) for m in ("kd", "sp")]
    assert [row.difference.mean if row.difference else None for row in rows] == pytest.approx([None, 0.01, None, 0.01])


def test_a_sweep_of_one_method_has_no_differences() -> None:
    rows = compare([summary("stkd", 0, 0.5, f"loss.alpha={a}") for a in (0.1, 0.9)], "kd")
    assert [(row.label, row.difference) for row in rows] == [("0.1", None), ("0.9", None)]


def test_without_validation_images() -> None:
    (row,) = compare([summary("kd", 0, 0.5, validation=None)], "kd")
    assert (row.label, row.validation) == ("kd", None)


def test_the_table_is_markdown() -> None:
    lines = markdown(compare(RUNS, "kd"), "kd").splitlines()
    assert [line.count("|") for line in lines] == [len(headings("kd")) + 1] * 4
    assert lines[-1] == "| sp | 3 | 50.00 ± 0.00 | 73.00 ± 2.00 | 72.00 ± 2.00 | +2.00 ± 2.48 |"


def test_files_are_kept_beside_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = Comparison("kd")
    for i, run in enumerate(RUNS):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "summary.json").write_text(json.dumps(run))
    config = OmegaConf.create({"hydra": {"mode": "MULTIRUN", "sweep": {"dir": str(tmp_path)}}})
    callback.on_multirun_end(config)
    assert json.loads((tmp_path / "comparison.json").read_text()) == {
        "reference": "kd",
        "rows": [asdict(row) for row in compare(RUNS, "kd")],
    }
    assert (tmp_path / "comparison.md").read_text() == markdown(compare(RUNS, "kd"), "kd")
    assert "comparison.md" in capsys.readouterr().out
