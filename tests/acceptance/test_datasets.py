"""One short run on each real data set, and on a user's own images."""

import json
from pathlib import Path

import pytest
from PIL import Image

from stkd_lightning.data import CINIC10DataModule
from tests.conftest import Command

SHORT = ["trainer=cpu", "trainer.max_epochs=1", "trainer.limit_train_batches=3", "trainer.limit_val_batches=1",
         "trainer.limit_test_batches=1", "teacher.min_accuracy=0", "logger=csv", "hydra.run.dir=run"]  # fmt: skip


@pytest.mark.parametrize(
    ("dataset", "classes", "size"),
    [
        ("cifar100", 100, 32),
        pytest.param("cifar10", 10, 32, marks=pytest.mark.slow),
        pytest.param("cinic10", 10, 32, marks=pytest.mark.slow),
        pytest.param("tiny_imagenet", 200, 64, marks=pytest.mark.slow),
    ],
)
def test_real_data(dataset: str, classes: int, size: int, command: Command, real_data: Path, tmp_path: Path) -> None:
    done = command(
        "train", f"dataset={dataset}", f"dataset.data_dir={real_data}", "teacher=resnet8", "student=resnet8", *SHORT
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["data"]["num_classes"], summary["data"]["image_size"]) == (classes, size)


def test_own_images_with_networks_of_other_libraries(command: Command, real_data: Path, tmp_path: Path) -> None:
    """Class folders of real images; a torchvision teacher and a timm student."""
    splits = CINIC10DataModule(real_data).arrays.splits
    for split in ("train", "test"):
        for label, name in ((3, "cat"), (8, "ship")):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            own = splits[split].images[splits[split].labels == label][:40]
            for i, image in enumerate(own):
                Image.fromarray(image.permute(1, 2, 0).numpy()).resize((40 + i, 50)).save(
                    tmp_path / "photos" / split / name / f"{i}.jpg"
                )
    done = command(
        "train", *SHORT, "dataset=image_folder", "dataset.data_dir=photos", "dataset.image_size=48",
        "dataset.batch_size=16", "teacher=torchvision", "teacher.network.name=squeezenet1_1", "student=timm",
        "student.name=resnet10t",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["data"]["class_names"] == ["cat", "ship"]
    assert (summary["teacher"]["network"], summary["student"]["network"]) == ("squeezenet1_1", "resnet10t")
