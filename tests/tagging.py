"""A tagging run as a user makes it: a few sound files with tags, a teacher, the student alone and the student."""

import subprocess
import sys
from pathlib import Path

from torch import Tensor, nn

from stkd_lightning.models import LogMel, Tagger
from stkd_lightning.models.audio.tagger import SpectrogramTagger
from tests.data.sounds import PITCHES, write_sounds

TAGS = tuple(sorted(PITCHES))
COUNTS = {"train": 32, "val": 8, "test": 8}
FRONT_END = "{window:128,hop:64,n_fft:256,f_max:3800,mels:12}"
NETWORKS = [
    "student=crnn", "student.channels=4", "student.width=8", f"student.front_end={FRONT_END}", "teacher=cnn",
    "teacher.network.width=4", f"teacher.network.front_end={FRONT_END.replace('12', '24')}",
]  # fmt: skip
SCHEDULE = [
    "dataset.batch_size=8", "optimizer=adam", "optimizer.lr=0.01", "scheduler=constant", "teacher.min_accuracy=0",
    "teacher.max_epochs=4", "trainer=cpu", "trainer.max_epochs=3", "precision=32-true", "compile=false", "logger=csv",
]  # fmt: skip


class PlainFrames(nn.Module):
    """Frames that are linear in the spectrogram: no layer of it sees other clips."""

    def __init__(self, mels: int, width: int) -> None:
        super().__init__()
        self.width, self.linear = width, nn.Linear(mels, width)

    def forward(self, spectrogram: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.linear(spectrogram[:, 0]).relu()


def plain(num_classes: int, width: int = 8, mels: int = 12) -> Tagger:
    """Return a tagger without BatchNorm, whose training is the same on any number of ranks."""
    front_end = LogMel(8000, mels=mels, window=128, hop=64, n_fft=256, f_max=3800.0)
    return Tagger(front_end, SpectrogramTagger(PlainFrames(mels, width), num_classes, "mean"))


def train(folder: Path) -> None:
    """Train in ``folder / "run"`` on data in ``folder / "data"``."""
    write_sounds(folder / "data", COUNTS, (0.5, 0.3))
    options = [
        "dataset=audio_folder", f"dataset.data_dir={folder / 'data'}", "dataset.sample_rate=8000", "loss=iusp",
        *NETWORKS, *SCHEDULE, "baseline=true", "hydra.run.dir=run", "resume=false",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "stkd_lightning.train", *options], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
