"""A new run takes no folder of another run or of a user, and two runs never share one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands import train
from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.config.run_folder import check_fresh, claim
from stkd_lightning.utilities.errors import InputError
from tests.conftest import Command

RUN = ["experiment=quickstart", "loss=ce", "logger=csv", "baseline=false", "trainer.max_epochs=1",
       "trainer.limit_train_batches=2"]  # fmt: skip


def settings(*overrides: str, mode: str = "RUN") -> DictConfig:
    with composing():
        config = composed("train", [*overrides])
    config.hydra.mode = mode
    return config


def write_run(folder: Path, *, finished: bool = True, ours: bool = True) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "config.yaml").write_text(f"student: {{_target_: {'stkd_lightning.models' if ours else 'my'}.Net}}\n")
    if finished:
        (folder / "summary.json").write_text("{}")
    return folder


@pytest.mark.parametrize(("finished", "words"), [(True, "a finished run; set another"), (False, "an interrupted run;")])
def test_check_fresh_refuses_another_run(finished: bool, words: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", finished=finished)
    with pytest.raises(InputError, match=f"run: contains {words}"):
        check_fresh(settings(), tmp_path / "run")
    for resume in ("auto", "false"):
        check_fresh(settings(f"resume={resume}"), tmp_path / "run")


def test_check_fresh_is_for_training_only(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    check_fresh(OmegaConf.create({"checkpoint": "run"}), tmp_path / "run")


@pytest.mark.parametrize("resume", ["null", "auto", "false"])
@pytest.mark.parametrize("name", ["thesis.tex", "config.yaml", "metrics.csv", "photos/cat.png", "checkpoints/a.ckpt"])
def test_check_fresh_refuses_files_of_others(name: str, resume: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"files that no run has written \({name.split('/')[0]}\); set hydra.run.dir"):
        check_fresh(settings(f"resume={resume}"), tmp_path)


def test_check_fresh_refuses_a_run_of_another_project(tmp_path: Path) -> None:
    write_run(tmp_path / "run", ours=False)
    with pytest.raises(InputError, match=r"no run has written \(checkpoints, config.yaml, summary.json\)"):
        check_fresh(settings("resume=false"), tmp_path / "run")


def test_check_fresh_takes_files_of_libraries(tmp_path: Path) -> None:
    for name in ("train.log", "slurm-7.out", "slurm-7.err", ".hydra/config.yaml", ".submitit/7/log", "mlruns/0/x",
                 "wandb/run/x", "tensorboard/0/x", "events.out.tfevents.7", "checkpoints/.lock"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    check_fresh(settings(), tmp_path)
    check_fresh(settings(), tmp_path / "missing")


def test_check_fresh_refuses_the_root() -> None:
    with pytest.raises(InputError, match="output folder /: is the root of the file system; set hydra.sweep.dir=out"):
        check_fresh(settings("resume=false", mode="MULTIRUN"), Path("/"), sweep=True)


def test_check_fresh_refuses_an_earlier_sweep(tmp_path: Path) -> None:
    write_run(tmp_path / "0")
    (tmp_path / "report.html").touch()
    with pytest.raises(InputError, match="contains an earlier sweep; resume=auto continues it"):
        check_fresh(settings(mode="MULTIRUN"), tmp_path, sweep=True)
    for resume in ("auto", "false"):
        check_fresh(settings(f"resume={resume}", mode="MULTIRUN"), tmp_path, sweep=True)
    check_fresh(settings("hydra.sweep.subdir=seed-${seed}", mode="MULTIRUN"), tmp_path, sweep=True)
    with pytest.raises(InputError, match=r"no run has written \(report.html\); set hydra.run.dir"):
        check_fresh(settings(), tmp_path)


def test_claim_gives_each_process_a_folder(tmp_path: Path) -> None:
    config = settings("hydra.run.dir=x/${now:%H}")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: claim(config, tmp_path / "x" / "12"), range(8)))
    assert {path.name for path in found if path} == {"12", *(f"12_{i}" for i in range(1, 8))}


@pytest.mark.parametrize("overrides", [["hydra.run.dir=x"], ["hydra.run.dir=${now:%H}", "resume=auto"]])
def test_claim_leaves_named_and_resumed_folders(overrides: list[str], tmp_path: Path) -> None:
    assert claim(settings(*overrides), tmp_path / "x") is None
    assert not list(tmp_path.iterdir())


def test_train_looks_again_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def claimed(folder: Path) -> Iterator[None]:
        write_run(folder)  # by another process, which held the lock
        yield

    monkeypatch.setattr(train, "claimed", claimed)
    config: dict[str, Any] = {"run_dir": str(tmp_path / "run"), "resume": None}
    with pytest.raises(InputError, match="contains a finished run"):
        train.train(OmegaConf.create(config))


def test_a_finished_run_is_overwritten_only_when_asked(command: Command, tmp_path: Path) -> None:
    assert command("train", *RUN, "hydra.run.dir=run").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    refused = command("train", *RUN, "hydra.run.dir=run", "seed=1")
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: output folder run: contains a finished run; "
        "set another hydra.run.dir, or resume=false to overwrite it\n"
    )
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    again = command("train", *RUN, "hydra.run.dir=run", "seed=1", "resume=false")
    assert again.returncode == 0, again.stderr
    assert '"seed": 1' in (tmp_path / "run" / "summary.json").read_text()


@pytest.mark.parametrize("mode", ["run", "sweep"])
def test_a_folder_of_the_same_time_is_left(mode: str, command: Command, tmp_path: Path) -> None:
    year = datetime.now().strftime("%Y")
    (tmp_path / "at" / year).mkdir(parents=True)  # of a process that started in the same second
    flags = ["-m", "hydra.callbacks.comparison.report=false"] if mode == "sweep" else []
    done = command("train", *flags, *RUN, f"hydra.{mode}.dir=at/${{now:%Y}}")
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "at" / year).iterdir())
    assert (tmp_path / "at" / f"{year}_1" / ("0" if mode == "sweep" else "") / "summary.json").is_file()


def test_a_claimed_folder_is_removed_after_a_mistake(command: Command, tmp_path: Path) -> None:
    assert command("train", *RUN, "hydra.callbacks.comparison._target_=missing.Class").returncode == 2
    assert not list(tmp_path.iterdir())
