"""The queue for a GPU: what starts, what is cut or fails, and what the next call does."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gpu.budget import Budget
from gpu.evidence import jobs, name_of, teacher_of
from gpu.item import Item
from gpu.places import Places
from gpu.profile import STEPS, Script, summary
from gpu.queue import Outcome, Queue, Stage
from gpu.records import attempt, write_record
from gpu.sizes import LITERATURE, MINIATURE, ONE_CYCLE, WHOLE
from gpu.speed import best_width, race
from gpu.speed import items as speed_items
from gpu.teachers import fitting, seconds

WRITE = "import json, pathlib, sys; p = pathlib.Path(sys.argv[1]); p.write_text(json.dumps({'result': {}}))"
SAVE = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), exit(143))); time.sleep(60)"


def item(name: str, seconds: float = 1.0, **options: Any) -> Item:
    return Item("stage", name, seconds, dict, **options)


def queue(tmp_path: Path, seconds: float = 100.0, code: Callable[[str], str] = lambda name: WRITE) -> Queue:
    places = Places(tmp_path)

    def command(item: Item) -> list[str]:
        return [sys.executable, "-c", code(item.name), str(item.record(places.results))]

    return Queue(places, Budget(time.monotonic() + seconds, reserve=0.0), command)


def test_budget_reserves_time_for_saving() -> None:
    budget = Budget.of(100, time.monotonic() - 40)
    assert 49 < budget.left <= 50
    assert budget.fits(49)
    assert not budget.fits(51)
    assert Budget.of(10_000, time.monotonic()).reserve == 25


def test_queue_starts_what_fits(tmp_path: Path) -> None:
    stage = Stage("stage", [item("long", 1000), item("short"), item("other", needs=lambda: "no teacher")])
    outcome = queue(tmp_path).run(stage)
    assert outcome.done == ("stage/short",)
    assert outcome.left == ("stage/long (no time)", "stage/other (no teacher)")


def test_queue_carries_on_from_records(tmp_path: Path) -> None:
    stage = Stage("stage", [item("first"), item("second", already=lambda: True), item("third")])
    write_record(item("first").record(Places(tmp_path).results), "stage/first", 1.0, {"result": {"passed": True}})
    assert queue(tmp_path).run(stage).done == ("stage/third",)
    assert queue(tmp_path).run(stage).done == ()


def test_failed_item_is_recorded_and_retried(tmp_path: Path) -> None:
    stage = Stage("stage", [item("bad"), item("good")])
    broken = queue(tmp_path, code=lambda name: "raise SystemExit('error: no memory')" if name == "bad" else WRITE)
    outcome = broken.run(stage)
    assert (outcome.failed, outcome.done) == (("stage/bad",), ("stage/good",))
    record = json.loads((tmp_path / "benchmarks/results/gpu/stage/bad.json").read_text())
    assert record["error"] == "exit code 1: error: no memory"
    assert {"commit", "hardware", "versions", "seconds"} <= record.keys()
    assert queue(tmp_path).run(stage).done == ("stage/bad",)


def test_check_that_has_not_passed_is_retried(tmp_path: Path) -> None:
    one, results = item("one"), Places(tmp_path).results
    for content, done in (
        ({"result": {"passed": False}}, False),
        (attempt(lambda: {}["missing"]), False),
        ({"result": {"passed": True}}, True),
        ({"result": {}}, True),
    ):
        write_record(one.record(results), one.title, 1.0, content)
        assert one.done(results) is done


def test_resumable_items_are_cut_at_the_end(tmp_path: Path) -> None:
    runs = [item(name, 0.5, resumable=True) for name in ("first", "second")]
    begun = queue(tmp_path, seconds=2.0, code=lambda name: SAVE)
    outcome = begun.run(Stage("stage", [*runs, item("hangs", 0.5)], width=3))
    assert set(outcome.cut) == {"stage/first", "stage/second"}
    assert outcome.failed == ("stage/hangs",)
    results = tmp_path / "benchmarks" / "results" / "gpu" / "stage"
    assert [path.name for path in results.iterdir()] == ["hangs.json"]
    assert json.loads((results / "hangs.json").read_text())["error"].startswith("ended after ")


def test_stage_that_cannot_run_leaves_its_items(tmp_path: Path) -> None:
    def prepare() -> None:
        raise FileNotFoundError("part 2 of 2 is missing")

    assert queue(tmp_path).run(Stage("stage", [item("one")], prepare=prepare)).left == (
        "stage/one (part 2 of 2 is missing)",
    )


def test_teacher_takes_the_longest_recipe_that_fits() -> None:
    assert fitting(WHOLE.recipes, 1.6, 3600) == LITERATURE
    assert fitting(WHOLE.recipes, 1.6, 300) == ONE_CYCLE
    assert fitting(WHOLE.recipes, 1.6, 10) == ONE_CYCLE
    assert seconds(ONE_CYCLE, 1.6) < 430 < seconds(LITERATURE, 1.6)


def test_evidence_begins_with_the_issues_order(tmp_path: Path) -> None:
    order = jobs(WHOLE, Places(tmp_path))
    first = [(job.part, job.row, job.seed) for job in order[:12]]
    assert {part for part, _, _ in first} == {"resnet32x4_resnet8x4"}
    assert [row for _, row, _ in first[:4]] == ["KD", "STKD with mixup.alpha 1", "STKD", "CE"]
    assert [seed for _, _, seed in first[::4]] == [0, 1, 2]
    assert [order[i].part for i in (12, 24)] == ["wrn_40_2_wrn_16_2", "resnet32x4_ShuffleV2"]
    assert len({name_of(job) for job in order}) == len(order) == 6 * 6 * 3
    assert teacher_of(order[12].table, order[12].part) == "wrn_40_2"
    assert {name for name, _ in WHOLE.teachers} >= {teacher_of(job.table, job.part) for job in order[:36]}


def test_speed_measures_one_graph_first() -> None:
    names = [one.name for one in speed_items(WHOLE)]
    assert names[:2] == ["resnet32x4_resnet8x4_64_one_graph", "resnet32x4_resnet8x4_64_profile_one_graph"]
    assert names[4] == "resnet32x4_resnet8x4_512_one_graph"  # after two and four trainings at once
    assert len(set(names)) == len(names)
    assert sum("together" in name for name in names) == len(WHOLE.together)


def test_runs_at_once_follow_the_measured_speeds(tmp_path: Path) -> None:
    sizes, results = replace(MINIATURE, together=(2, 4)), Places(tmp_path).results
    assert best_width(results, sizes) == 1
    folder = results / "gpu" / "speed"
    for name, result in {
        "one_graph": {"one graph": {"median": 100.0}},
        "together_2": {"images_per_second": 150.0},
        "together_4": {"images_per_second": 140.0},
    }.items():
        write_record(folder / f"resnet14_resnet8_8_{name}.json", name, 1.0, {"result": result})
    assert best_width(results, sizes) == 2


class _Event:
    def __init__(self, start: float, end: float, *, annotation: bool = False, host: bool = False) -> None:
        import torch

        self.device_type = torch.autograd.DeviceType.CPU if host else torch.autograd.DeviceType.CUDA
        self.is_user_annotation = annotation
        self.time_range = type("Range", (), {"start": start, "end": end})
        self.key, self.count, self.self_device_time_total = f"kernel {start}", STEPS, end - start


def test_profile_counts_overlapping_kernels_once() -> None:
    spans = [_Event(0, 3900, annotation=True), _Event(0, 3900, host=True)]  # of calls, which contain kernels
    events = [_Event(0, 1000), _Event(500, 1500), _Event(3000, 3500), *spans]
    profiler: Any = type("Profiler", (), {"events": lambda self: events, "key_averages": lambda self: events})()
    figures = summary(profiler, seconds=0.004)
    assert figures["busy_share"] == pytest.approx(0.5)
    assert figures["device_operations"] == 3 / STEPS
    assert list(figures["kernels_us"])[-1] == "kernel 3000"
    assert len(figures["kernels_us"]) == 3


def test_a_reference_that_is_late_is_left_out() -> None:
    class Training:
        def __init__(self, *, late: bool) -> None:
            self.late = late

        def begin(self, count: int) -> None: ...

        def ready(self, seconds: float) -> bool:
            return not self.late

        def report(self) -> dict[str, float]:
            assert not self.late
            return {"seconds": 1.0}

        def steps(self, count: int) -> dict[str, float]:
            return self.report()

    for late in (False, True):
        field: Any = {"reference": Training(late=late), "ours": Training(late=False)}
        assert set(race(field, 8, MINIATURE)) == ({"ours"} if late else {"reference", "ours"})


def test_script_times_steps_without_the_profiler() -> None:
    script = Script(5)
    script.profiler = type("Profiler", (), {"start": lambda self: None, "stop": lambda self: None})()
    counts = []
    for seconds_taken in (9.0, 0.5, 7.0):
        counts.append(script.recv())
        script.send({"seconds": seconds_taken})
    assert counts == [5, STEPS, STEPS]
    assert script.seconds == 0.5
    assert script.recv() == 0


def test_whole_queue_is_refused_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gpu.command import command

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert command(Namespace(reference=False, miniature=False)) == 2
    assert "no GPU here" in capsys.readouterr().err


def test_outcome_names_a_few_titles(capsys: pytest.CaptureFixture[str]) -> None:
    one = Outcome(done=("a",), left=tuple(f"run {n}" for n in range(20)))
    Outcome(failed=("b",)).plus(one).tell()
    assert capsys.readouterr().out.splitlines()[:2] == ["done: a", "failed: b"]
    one.tell()
    assert capsys.readouterr().out.endswith("run 11 and 8 more\n")
