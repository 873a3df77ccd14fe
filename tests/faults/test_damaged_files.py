"""Hundreds of damaged files: each gives an error of one line or what was written, in time, and nothing else is left."""

import io
import random
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from stkd_lightning.data import CIFAR100DataModule
from stkd_lightning.data.archives.extract import extract
from stkd_lightning.data.decode import decode
from stkd_lightning.models.checkpoint_file import write_sealed
from stkd_lightning.models.weights import load_weights
from stkd_lightning.utilities.errors import InputError
from tests.data.conftest import pack_tar, pack_zip
from tests.faults.mutations import mutations, read, tree


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))


WRITERS: dict[str, Callable[[dict[str, torch.Tensor], Path], object]] = {
    "w.pt": lambda state, path: torch.save({"state_dict": state, "epoch": 3}, path),
    "w.legacy.pth": lambda state, path: torch.save({"model": state}, path, _use_new_zipfile_serialization=False),
    "w.sealed.ckpt": lambda state, path: write_sealed({"state_dict": state}, path),
    "w.safetensors": lambda state, path: save_file(state, path),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.filterwarnings("ignore")  # torch tells of odd pickles
def test_checkpoints(name: str, tmp_path: Path) -> None:
    source, target = network(0).state_dict(), network(1)
    WRITERS[name](source, tmp_path / name)
    load_weights(target, tmp_path / name)
    for what, content in mutations((tmp_path / name).read_bytes(), 80):
        (tmp_path / name).write_bytes(content)
        target = network(1)
        before = {k: v.clone() for k, v in target.state_dict().items()}
        refused = read(what, partial(load_weights, target, tmp_path / name)) is not None
        for key, value in target.state_dict().items():
            assert value.shape == source[key].shape, what
            assert value.isfinite().all(), what
            assert not refused or torch.equal(value, before[key]), f"{what}: {key} changed"
            assert refused or "sealed" not in name or torch.equal(value, source[key]), f"{what}: not noticed"
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.fixture
def official(tmp_path: Path) -> Path:
    folder = tmp_path / "official" / "a"
    for name in ("x/1.txt", "x/2.bin", "y/3.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(random.Random(name).randbytes(900))
    return folder


PACKERS: dict[str, Callable[[Path, Path], Path]] = {
    "a.tar.gz": pack_tar,
    "a.zip": pack_zip,
    "a.tar": lambda folder, archive: _pack(folder, archive, "w:"),
    "a.tar.bz2": lambda folder, archive: _pack(folder, archive, "w:bz2"),
    "a.tar.xz": lambda folder, archive: _pack(folder, archive, "w:xz"),
}


def _pack(folder: Path, archive: Path, mode: str) -> Path:
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        tar.add(folder, folder.name)
    return archive


@pytest.mark.parametrize("name", PACKERS)
def test_archives(name: str, official: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    archive = PACKERS[name](official, tmp_path / "data" / name)
    whole = tree(official)
    extract(archive, tmp_path / "data" / "a")
    assert tree(tmp_path / "data" / "a") == whole
    for i, (what, content) in enumerate(mutations(archive.read_bytes(), 50)):
        folder = tmp_path / f"data{i}"
        folder.mkdir()
        (folder / name).write_bytes(content)
        error = read(what, partial(extract, folder / name, folder / "a"))
        assert sorted(p.name for p in folder.iterdir()) == ([name] if error else ["a", name]), what
        if error is None and (name != "a.tar" or what.startswith("truncated")):  # plain tar has no checksum of contents
            assert tree(folder / "a") == whole, what
        assert not any(p.is_symlink() for p in folder.rglob("*")), what
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("data")) == ["official"]


@pytest.mark.parametrize("name", ["train", "meta"])
def test_pickles(name: str, cifar100_folder: Path, tmp_path: Path) -> None:
    raw = (cifar100_folder / name).read_bytes()
    for i, (what, content) in enumerate(mutations(raw, 100)):
        (cifar100_folder / name).write_bytes(content)
        data = CIFAR100DataModule(cifar100_folder.parent, cache_dir=tmp_path / f"cache{i}")
        arrays = read(what, partial(getattr, data, "arrays"))
        prepared = [p for p in (tmp_path / f"cache{i}" / "data").glob("*") if p.suffix != ".lock"]
        if isinstance(arrays, InputError):
            assert prepared == [], what
            continue
        assert prepared == [arrays.folder], what
        images, labels = arrays.splits["train"]
        assert images.dtype == torch.uint8, what
        assert images.shape == (len(labels), 3, 32, 32), what
        assert labels.max() < len(arrays.class_names), what
        assert all(isinstance(n, str) for n in arrays.class_names), what


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF"])
def test_images(kind: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    path = tmp_path / "image.png"
    for what, content in mutations(buffer.getvalue(), 40):
        path.write_bytes(content)
        image = read(what, lambda: decode(path, 16))
        if not isinstance(image, InputError):
            assert image.dtype == np.uint8, what
            assert image.shape == (3, 16, 16), what
