"""Small data sets in the official layouts, packed as the official archives are."""

import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

RANDOM = np.random.default_rng(0)


def dump(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def picture(path: Path, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    Image.fromarray(RANDOM.integers(0, 256, shape, dtype=np.uint8)).save(path)


@pytest.fixture
def cifar100_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "official" / "cifar-100-python"
    folder.mkdir(parents=True)
    for split, count in (("train", 40), ("test", 12)):
        rows = RANDOM.integers(0, 256, (count, 3072), dtype=np.uint8)
        labels = [i % 4 for i in range(count)]
        coarse = [label % 2 for label in labels]
        dump(folder / split, {"data": rows, "fine_labels": labels, "coarse_labels": coarse, "filenames": ["x"] * count})
    dump(folder / "meta", {"fine_label_names": ["a", "b", "c", "d"], "coarse_label_names": ["even", "odd"]})
    return folder


def pack_tar(folder: Path, archive: Path, *, top: bool = True) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.rglob("*")) if not top else [folder]:
            tar.add(path, arcname=str(path.relative_to(folder.parent if top else folder)), recursive=top)
    return archive


def pack_zip(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as z:
        for path in sorted(folder.rglob("*")):
            z.write(path, str(path.relative_to(folder.parent)))
    return archive


@pytest.fixture
def tiny_imagenet_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "official" / "tiny-imagenet-200"
    synsets = ["n02", "n01"]
    for synset in synsets:
        for i in range(3):
            picture(folder / "train" / synset / "images" / f"{synset}_{i}.JPEG", (64, 64), "L" if i == 0 else "RGB")
    rows = []
    for i in range(4):
        picture(folder / "val" / "images" / f"val_{i}.JPEG", (64, 64))
        rows.append(f"val_{i}.JPEG\t{synsets[i % 2]}\t0\t0\t63\t63\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(rows))
    (folder / "wnids.txt").write_text("n02\nn01\n")
    (folder / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn03\tnothing\n")
    return folder


@pytest.fixture
def cinic10_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "official" / "CINIC-10"
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        for name in ("cat", "dog"):
            for i in range(count):
                picture(folder / split / name / f"{i}.png")
    return folder
