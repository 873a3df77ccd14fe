"""Clips per second of the way from sound files to log-mel spectrograms, and of a whole distillation step.

    pip install -e '.[audio]' torchaudio && python benchmarks/clips.py

Writes 512 clips of 2.5 s at 8 kHz to a temporary folder. Two ways take turns, one pass each: soundfile and
torchaudio.transforms in a DataLoader with a worker for each core, and this package's clips in memory with its front end
on the device. Both do so without a network, and with a distillation step: CNN6 of width 16 -> CRNN with IUSP. The front
end without a network is compiled, as it is in long trainings. Results are medians of the passes. A minute on 2 cores.
Writes benchmarks/results/clips_<device>.json.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from operator import truediv
from pathlib import Path
from typing import Any

import machine
import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from stkd_lightning import DistillationModule
from stkd_lightning.data import AudioFolderDataModule
from stkd_lightning.losses import CrossEntropyLoss, IUSPLoss, WeightedSum, intra_utterance_similarity
from stkd_lightning.models import LogMel, Tagger, cnn, crnn
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.memory import keep_freed_memory

RESULTS = Path(__file__).parent / "results"
RATE, SECONDS, CLIPS, BATCH = 8000, 2.5, 512, 32
FRONT_END: dict[str, Any] = {"window": 200, "hop": 80, "n_fft": 512, "f_min": 125.0, "f_max": 3800.0}
TEACHER_BANDS, STUDENT_BANDS = 64, 20
WEIGHT = 10.0  # of IUSP
WAYS = ("files, soundfile and torchaudio", "the same, trained", "in memory, our front end", "the same, ours, trained")
Pass = Callable[[], int]  # returns the number of clips


class Files(Dataset[tuple[Tensor, ...]]):
    """Tags and log-mel spectrograms of sound files, one by one, as usual scripts compute them.

    Args:
        paths: of the files.
        bands: of each spectrogram.
    """

    def __init__(self, paths: list[Path], *bands: int) -> None:
        from torchaudio.transforms import MelSpectrogram

        self.paths = paths
        self.spectrograms = [
            MelSpectrogram(
                RATE, n_fft=FRONT_END["n_fft"], win_length=FRONT_END["window"], hop_length=FRONT_END["hop"],
                f_min=FRONT_END["f_min"], f_max=FRONT_END["f_max"], n_mels=count, power=1.0, center=False,
            )
            for count in bands
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, ...]:
        samples, _ = soundfile.read(self.paths[i], dtype="float32")
        waveform = torch.from_numpy(samples)
        tags = torch.tensor([i % 2, 1 - i % 2], dtype=torch.float32)
        return tags, *(torch.log(part(waveform).mT + 0.01)[None] for part in self.spectrograms)


def write_clips(folder: Path) -> list[Path]:
    """Write noise with tags as wav files and their table."""
    random = np.random.default_rng(0)
    rows, paths = ["file,tags,split"], []
    for i in range(CLIPS):
        path = folder / f"{i}.wav"
        soundfile.write(path, (0.1 * random.standard_normal(round(RATE * SECONDS))).clip(-1, 1), RATE, subtype="PCM_16")
        paths.append(path)
        rows.append(f"{path.name},{'a' if i % 2 else 'b'},{'test' if i < BATCH else 'train'}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return paths[BATCH:]


def networks() -> tuple[Tagger, Tagger]:
    """Return teacher and student with initial weights."""
    teacher = cnn(2, "cnn6", 16, front_end=LogMel(RATE, mels=TEACHER_BANDS, **FRONT_END))
    return teacher, crnn(2, front_end=LogMel(RATE, mels=STUDENT_BANDS, **FRONT_END))


def usual(paths: list[Path]) -> tuple[Pass, Pass]:
    """Return the usual script's pass over the spectrograms, and with a distillation step."""
    device, workers = machine.device(), os.cpu_count() or 1
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "num_workers": workers, "persistent_workers": True}
    alone = DataLoader(Files(paths, TEACHER_BANDS), **options)
    both = DataLoader(Files(paths, TEACHER_BANDS, STUDENT_BANDS), **options)
    teacher, student = (network.network.to(device) for network in networks())
    teacher.eval()
    optimizer = torch.optim.Adam(student.parameters(), 1e-3, fused=True)

    def read() -> int:
        return sum(len(spectrogram.to(device)) for _, spectrogram in alone)

    def train() -> int:
        count = 0
        for batch in both:
            tags, large, small = (part.to(device) for part in batch)
            with torch.autocast(device.type, torch.bfloat16):
                with torch.no_grad():
                    taught = teacher.frames(large)
                frames = student.frames(small)
                logits = student.classifier(student.pooling(frames))
            hard = F.binary_cross_entropy_with_logits(logits.float(), tags, reduction="sum") / len(tags)
            count += update(hard + WEIGHT * intra_utterance_similarity(frames, taught), optimizer, len(tags))
        return count

    return read, train


def ours(folder: Path) -> tuple[Pass, Pass]:
    """Return this package's pass over the spectrograms, and with a distillation step."""
    device = machine.device()
    data = AudioFolderDataModule(
        folder, sample_rate=RATE, batch_size=BATCH, cache_dir=folder / "cache", validation_fraction=0
    )
    data.prepare_data()
    teacher, student = networks()
    front_end = torch.compile(LogMel(RATE, mels=TEACHER_BANDS, **FRONT_END).to(device), dynamic=False)
    loss = WeightedSum({"ce": CrossEntropyLoss(), "iusp": IUSPLoss()}, {"iusp": WEIGHT})
    module = DistillationModule(
        student, loss, FrozenTeacher(teacher), task=data.task, example=torch.zeros(1, *data.input_shape)
    ).to(device)
    optimizer = torch.optim.Adam(student.parameters(), 1e-3, fused=True)
    keep_freed_memory()  # as a training does

    @torch.no_grad()
    def read() -> int:
        return sum(len(front_end(batch.inputs.to(device))) for batch in data.train_dataloader())

    def train() -> int:
        count = 0
        for batch in data.train_dataloader():
            with torch.autocast(device.type, torch.bfloat16):
                total = torch.stack(list(module.terms(batch).values())).sum()
            count += update(total, optimizer, len(batch.labels))
        return count

    return read, train


def update(loss: Tensor, optimizer: torch.optim.Optimizer, clips: int) -> int:
    """Take a step and return the number of its clips."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return clips


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    busy = machine.alone()
    speeds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_clips(Path(folder))
        passes = zip(WAYS, (*usual(paths), *ours(Path(folder))), strict=True)
        running = dict(passes)
        for i in range(rounds + 1):  # the first one warms up
            for name, run in running.items():
                start = time.perf_counter()
                speed = run() / (time.perf_counter() - start)
                if i:
                    speeds.setdefault(name, []).append(speed)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    read, train, own_read, own_train = (speeds[name] for name in WAYS)
    ratio = statistics.median(map(truediv, own_read, read))
    whole = statistics.median(map(truediv, own_train, train))
    for name, value in medians.items():
        print(f"{name:<34} {value:8,.0f} clips/s")
    print(f"input path: {ratio:.1f} times as fast; with the networks: {whole:.1f} times")
    result = {
        "clips_per_second": medians,
        "ratio": ratio,
        "whole": whole,
        "rounds": rounds,
        "busy_percent": busy,
        **machine.facts(),
    }
    path = RESULTS / f"clips_{machine.device().type}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
