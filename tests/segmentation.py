"""A segmentation run as a user makes it: a few images with masks, a teacher, the student alone and the student."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ground", "red square", "blue square")
SPLITS = {"train": [(24, 32)] * 12, "val": [(24, 32)] * 6, "test": [(24, 32), (30, 20), (24, 32), (24, 32)]}


def image_and_mask(size: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return gray noise ``(h, w, 3)`` with a red and a blue square, and its mask, whose first row has no class."""
    random = np.random.default_rng(seed)
    image, mask = random.integers(90, 130, (*size, 3)).astype(np.uint8), np.zeros(size, np.uint8)
    for label, channel in ((1, 0), (2, 2)):
        top, left = (int(random.integers(1, side - 9)) for side in size)
        image[top : top + 9, left : left + 9] = 30
        image[top : top + 9, left : left + 9, channel] = 220
        mask[top : top + 9, left : left + 9] = label
    mask[0] = 255
    return image, mask


def write_data(folder: Path) -> None:
    """Write the data set as folders of images and masks."""
    for number, (split, sizes) in enumerate(SPLITS.items()):
        for part in ("images", "masks"):
            (folder / split / part).mkdir(parents=True)
        for i, size in enumerate(sizes):
            image, mask = image_and_mask(size, 100 * number + i)
            Image.fromarray(image).save(folder / split / "images" / f"{i}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{i}.png")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")


def train(folder: Path) -> None:
    """Train in ``folder / "run"`` on data in ``folder / "data"``."""
    write_data(folder / "data")
    options = [
        "dataset=image_mask_folder", f"dataset.data_dir={folder / 'data'}", "dataset.batch_size=4", "loss=kd",
        "student=dilated_resnet", "student.width=4", "teacher=dilated_resnet", "teacher.network.width=8",
        "teacher.min_accuracy=0", "teacher.max_epochs=8", "trainer=cpu", "trainer.max_epochs=4", "baseline=true",
        "optimizer=adamw", "optimizer.lr=0.01", "scheduler=cosine", "precision=32-true", "compile=false", "logger=csv",
        "hydra.run.dir=run", "resume=false",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "stkd_lightning.train", *options], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
