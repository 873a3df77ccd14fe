"""Runs of a tagging student: in Python, over ranks, traced, resumed, and by the commands."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from stkd_lightning import DistillationModule, Mixup
from stkd_lightning.callbacks import Checkpoints, Seeding
from stkd_lightning.data import AudioFolderDataModule
from stkd_lightning.distillation import epoch_steps
from stkd_lightning.losses import CrossEntropyLoss, IUSPLoss, KDLoss, Loss, SPLoss, STKDLoss, WeightedSum
from stkd_lightning.models import LogMel, Tagger, cnn, crnn
from stkd_lightning.teacher import FrozenTeacher
from tests.conftest import Command
from tests.data.sounds import RATE, write_sounds
from tests.tagging import COUNTS, NETWORKS, SCHEDULE

PLAIN = [
    "student=custom", "student._target_=tests.tagging.plain", "+student.num_classes=${num_classes}", "teacher=custom",
    "teacher.network._target_=tests.tagging.plain", "+teacher.network.num_classes=${num_classes}",
    "+teacher.network.width=16", "+teacher.network.mels=24",
]  # fmt: skip
ROOT = Path(__file__).parents[2]
FRONT_END: dict[str, Any] = {"window": 128, "hop": 64, "n_fft": 256, "f_max": 3800.0}


def data(folder: Path, seconds: tuple[float, ...] = (0.5,), **options: Any) -> AudioFolderDataModule:
    if not (folder / "sounds").is_dir():
        write_sounds(folder / "sounds", COUNTS, seconds)
    source = AudioFolderDataModule(
        folder / "sounds", sample_rate=RATE, cache_dir=folder / "cache", batch_size=8, **options
    )
    source.prepare_data()
    return source


def networks() -> tuple[Tagger, Tagger]:
    torch.manual_seed(0)
    student = crnn(3, 4, 8, front_end=LogMel(RATE, mels=12, **FRONT_END))
    return student, cnn(3, "cnn6", 4, front_end=LogMel(RATE, mels=24, **FRONT_END))


def fitted(
    folder: Path, source: AudioFolderDataModule, loss: Loss, epochs: int, checkpoint: Path | None = None,
    student: Tagger | None = None, **options: Any,
) -> tuple[DistillationModule, L.Trainer]:  # fmt: skip
    small, teacher = networks()
    module = DistillationModule(
        student or small, loss, FrozenTeacher(teacher), task=source.task, schedule=lambda progress: 1.0,
        example=torch.zeros(1, *source.input_shape), **options,
    )  # fmt: skip
    kept = Checkpoints(folder, select=True, score=source.task.score)
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=[kept, Seeding(0)], enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, source, ckpt_path=checkpoint)
    return module, trainer


def iusp() -> Loss:
    return WeightedSum({"ce": CrossEntropyLoss(), "iusp": IUSPLoss()}, {"iusp": 10.0})


@pytest.mark.parametrize("loss", [KDLoss, STKDLoss, iusp, SPLoss])
@pytest.mark.parametrize("mixup", [None, Mixup(alpha=1.0)], ids=["unmixed", "mixed"])
def test_losses_train_on_clips_of_unequal_lengths(loss: Any, mixup: Mixup | None, tmp_path: Path) -> None:
    source = data(tmp_path, (0.5, 0.3), time_shift=0.05, time_masks=1, band_masks=1)
    _, trainer = fitted(tmp_path / "run", source, loss(), 1, mixup=mixup)
    metrics = trainer.callback_metrics
    assert 0 < float(metrics["val/micro_auprc"]) <= 1
    assert 0 <= float(metrics["val/agreement"]) <= 1
    assert {f"val/ap/{name}" for name in source.class_names} <= set(metrics)


def test_a_resumed_tagging_is_bit_identical(tmp_path: Path) -> None:
    source = data(tmp_path, (0.5, 0.3), time_shift=0.05, time_masks=1, band_masks=1)
    whole, _ = fitted(tmp_path / "whole", source, iusp(), 3)
    fitted(tmp_path / "parts", source, iusp(), 1)
    resumed, _ = fitted(tmp_path / "parts", source, iusp(), 3, tmp_path / "parts" / "last.ckpt")
    for name, value in whole.student.state_dict().items():
        assert torch.equal(resumed.student.state_dict()[name], value), name


@pytest.mark.parametrize("mixup", [None, Mixup(alpha=1.0)], ids=["unmixed", "mixed"])
def test_a_traced_tagging_equals_its_parts(
    mixup: Mixup | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = data(tmp_path, (0.5, 0.3), time_shift=0.05)
    student = cnn(3, "cnn6", 2, front_end=LogMel(RATE, mels=12, **FRONT_END))
    parts, _ = fitted(tmp_path / "parts", source, iusp(), 2, student=deepcopy(student), mixup=mixup)
    monkeypatch.setattr(epoch_steps, "TRACED_DEVICES", ("cpu",))
    traced, _ = fitted(tmp_path / "traced", source, iusp(), 2, student=student, mixup=mixup, compile=True)
    assert "does not make one trace" not in capsys.readouterr().out
    for name, value in parts.student.state_dict().items():
        torch.testing.assert_close(traced.student.state_dict()[name], value, atol=1e-4, rtol=1e-4)


def test_a_recurrent_network_is_compiled_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = data(tmp_path)
    parts, _ = fitted(tmp_path / "parts", source, iusp(), 1)
    monkeypatch.setattr(epoch_steps, "TRACED_DEVICES", ("cpu",))
    compiled, _ = fitted(tmp_path / "compiled", source, iusp(), 1, compile=True)
    assert "does not make one trace: Attempted to wrap RNN, GRU, or LSTM" in capsys.readouterr().out
    for name, value in parts.student.state_dict().items():
        torch.testing.assert_close(compiled.student.state_dict()[name], value, atol=1e-4, rtol=1e-4)


def options(tmp_path: Path, networks: Sequence[str] = NETWORKS) -> list[str]:
    if not (tmp_path / "sounds").is_dir():
        write_sounds(tmp_path / "sounds", COUNTS, (0.5, 0.3))
    return ["dataset=audio_folder", "dataset.data_dir=sounds", "dataset.sample_rate=8000", *networks, *SCHEDULE]


def test_two_ranks_train_tagging_as_one(fresh_command: Command, tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")  # commands import the network from there
    found = []
    for ranks in (1, 2):
        ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"] if ranks == 2 else []
        done = fresh_command("train", *options(tmp_path, PLAIN), "loss=kd_iusp", *ddp,
                             f"hydra.run.dir=run{ranks}", cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        checkpoint = torch.load(tmp_path / f"run{ranks}" / "checkpoints" / "last.ckpt", weights_only=True)
        figures = json.loads((tmp_path / f"run{ranks}" / "summary.json").read_text())
        found.append((checkpoint["state_dict"], figures["student"]["test"]["last"]["micro_auprc"]))
    for name, value in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], value, atol=1e-4, rtol=1e-3)
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-3)


def test_a_killed_tagging_resumes_bit_identical(command: Command, tmp_path: Path) -> None:
    """Its clips are of unequal lengths, shifted in time and masked."""
    draws = ["dataset.time_shift=0.05", "dataset.time_masks=1", "dataset.band_masks=1", "trainer.max_epochs=40"]
    chosen = [*options(tmp_path), "loss=kd_iusp", *draws, "checkpoint_minutes=0.001", "cache_dir=cache"]
    done = command("train", *chosen, "hydra.run.dir=whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    part = [sys.executable, "-m", "stkd_lightning.train", *chosen, "hydra.run.dir=part"]
    run = subprocess.Popen(part, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "part" / "checkpoints" / "last.ckpt").is_file():
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert not (tmp_path / "part" / "summary.json").exists()
    done = command("train", *chosen, "hydra.run.dir=part", "resume=auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed" in done.stdout
    whole, resumed = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "part")
    )
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("loss=dkd", "needs 3 classes"),
        ("loss=crd", "CRDLoss: needs one class for each sample, but tagging has several"),
        ("student.front_end.f_max=9000", "front_end.f_max=9000"),
        ("student.front_end.sample_rate=16000", "front_end.sample_rate=16000: the clips have 8000 samples a second"),
        ("dataset.time_mask=2", "dataset.time_mask=2: must be"),
        ("dataset.labels=tags.csv", "sounds/tags.csv is missing"),
    ],
)
def test_bad_options_exit_in_one_line(option: str, words: str, command: Command, tmp_path: Path) -> None:
    done = command("train", *options(tmp_path), "loss=iusp", "hydra.run.dir=run", option, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_network_of_images_is_refused(command: Command, tmp_path: Path) -> None:
    networks = [option for option in NETWORKS if not option.startswith("student")]
    done = command(
        "train", *options(tmp_path, networks), "student=resnet8", "loss=kd", "hydra.run.dir=run", cwd=tmp_path
    )
    assert done.returncode == 2, done.stdout
    assert "cannot take clips (1, 4000)" in done.stderr
    assert not (tmp_path / "run").exists()
