"""Photographs of unequal sides: prepared with their shape, or streamed from their files."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from stkd_lightning import DistillationModule, Mixup
from stkd_lightning.callbacks import Checkpoints, Seeding
from stkd_lightning.data import Augment, ImageFolderDataModule, loader
from stkd_lightning.data.datasets import image_folder
from stkd_lightning.data.datasets.digits import DigitsDataModule
from stkd_lightning.data.decode import decode, decode_covering, decode_part, size_and_digest
from stkd_lightning.data.integrity import is_intact
from stkd_lightning.data.picture_split import FileSplit, PictureSplit
from stkd_lightning.losses import STKDLoss
from stkd_lightning.models import create_model
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.errors import InputError

CROPS = Augment(crop_scale=(0.3, 1.0), policy="trivial")
SIDES = [(60, 80), (90, 50), (48, 48), (100, 140)]


def photo(path: Path, sides: tuple[int, int], seed: int, *, orientation: int | None = None) -> None:
    """Write smooth noise, which survives JPEG and other scales."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(sides[::-1], Image.Resampling.BICUBIC)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    image.save(path, quality=95, exif=exif)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for label, name in enumerate(("cat", "dog")):
        for i in range(12):
            ending = "png" if i % 3 == 0 else "jpg"
            photo(tmp_path / "photos" / name / f"{i}.{ending}", SIDES[(i + label) % 4], 100 * label + i)
    return tmp_path / "photos"


def module(folder: Path, **options: Any) -> ImageFolderDataModule:
    settings = {"image_size": 32, "batch_size": 4, "augment": CROPS, "cache_dir": folder.parent / "cache"} | options
    return ImageFolderDataModule(folder, **settings)


def epoch(data: ImageFolderDataModule, number: int = 0) -> list[Tensor]:
    batches = data.train_dataloader()
    batches.set_epoch(number)
    return [batch.inputs for batch in batches]


@pytest.mark.parametrize("storage", ["prepared", "streamed"])
def test_batches_do_not_depend_on_workers(photos: Path, storage: str) -> None:
    made = [
        epoch(module(photos, storage=storage, **how)) for how in ({"resident": True}, {"workers": 1}, {"workers": 2})
    ]
    assert made[0][0].shape == (4, 3, 32, 32)
    for batches in made[1:]:
        assert all(torch.equal(a, b) for a, b in zip(batches, made[0], strict=True))
    other = epoch(module(photos, storage=storage, workers=1), number=1)
    assert not torch.equal(other[0], made[0][0])


@pytest.mark.parametrize("storage", ["prepared", "streamed"])
def test_ranks_share_the_batches_of_one(photos: Path, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = epoch(module(photos, storage=storage, workers=1)), []
    for rank in range(2):
        monkeypatch.setattr(loader, "world", lambda rank=rank: (rank, 2))
        parts.append(epoch(module(photos, storage=storage, workers=1)))
    for batch, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat(shares), batch)


def fitted(folder: Path, data: ImageFolderDataModule, epochs: int, checkpoint: Path | None = None) -> dict[str, Tensor]:
    data.prepare_data()
    torch.manual_seed(0)
    student, teacher = (create_model(name, num_classes=2) for name in ("resnet8", "resnet14"))
    options = {"schedule": lambda progress: 1.0, "example": torch.zeros(1, 3, 32, 32)}
    distilled = DistillationModule(student, STKDLoss(), FrozenTeacher(teacher), Mixup(), task=data.task, **options)
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=[Checkpoints(folder, select=False), Seeding(0)],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(distilled, data, ckpt_path=checkpoint)
    return student.state_dict()


@pytest.mark.parametrize("storage", ["prepared", "streamed"])
def test_a_resumed_run_is_bit_identical(photos: Path, tmp_path: Path, storage: str) -> None:
    data = module(photos, storage=storage, workers=1)
    whole = fitted(tmp_path / "whole", data, 2)
    fitted(tmp_path / "parts", data, 1)
    resumed = fitted(tmp_path / "parts", data, 2, tmp_path / "parts" / "last.ckpt")
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_an_evaluation_sees_what_a_prediction_reads(photos: Path) -> None:
    data = module(photos, storage="streamed", resident=True)
    split = data.arrays.splits["test"]
    assert isinstance(split, FileSplit)
    (batch,) = data.test_dataloader()
    for i, image in enumerate(batch.inputs):
        read = decode(split.path(i), (32, 32), (37, 37))
        assert torch.equal(image, data.normalize(torch.from_numpy(read)))


def test_prepared_and_streamed_evaluations_agree(photos: Path) -> None:
    streamed, prepared = (module(photos, storage=s, resident=True) for s in ("streamed", "prepared"))
    assert isinstance(prepared.arrays.splits["train"], PictureSplit)
    (one,), (other,) = streamed.test_dataloader(), prepared.test_dataloader()
    assert torch.equal(one.labels, other.labels)
    assert (one.inputs - other.inputs).abs().mean() < 0.2  # standard deviations
    assert streamed.arrays.digest != prepared.arrays.digest


@pytest.mark.parametrize("storage", ["prepared", "streamed"])
def test_digests_are_verified(photos: Path, storage: str) -> None:
    data = module(photos, storage=storage)
    assert is_intact(data.arrays)
    assert module(photos, storage=storage, cache_dir=photos.parent / "other").arrays.digest == data.arrays.digest
    assert module(photos, storage=storage, image_size=24).arrays.digest != data.arrays.digest


def test_parts_equal_a_crop_that_is_resized(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", (90, 120), 1)
    box = (10, 20, 51, 67)
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(image.crop((20, 10, 87, 61)).resize((40, 32), Image.Resampling.BICUBIC)).transpose(
            2, 0, 1
        )
    assert np.array_equal(decode_part(tmp_path / "a.png", (90, 120), box, (32, 40)), expected)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", [None, 3, 6])
def test_reduced_decoding_shows_the_same_part(tmp_path: Path, orientation: int | None, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    photo(path, (400, 640), 2, orientation=orientation)
    with Image.open(path) as image:
        whole = ImageOps.exif_transpose(image)
        sides = (whole.height, whole.width)
        top, left, height, width = 33, 71, 201, 252
        part = whole.crop((left, top, left + width, top + height)).resize((40, 32), Image.Resampling.BICUBIC)
    assert size_and_digest(path)[:2] == sides
    found = decode_part(path, sides, (top, left, height, width), (32, 40))
    assert np.abs(found.astype(float) - np.asarray(part).transpose(2, 0, 1)).mean() < 1.5


def test_decoding_covers_and_does_not_enlarge(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", (400, 640), 3)
    photo(tmp_path / "b.png", (20, 640), 3)
    assert decode_covering(tmp_path / "a.jpg", (64, 64)).shape == (3, 64, 102)
    assert decode_covering(tmp_path / "b.png", (64, 64)).shape == (3, 20, 640)


def test_damaged_pixels_of_a_png_are_found_when_files_are_listed(photos: Path) -> None:
    path = photos / "cat" / "0.png"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    for storage in ("prepared", "streamed"):
        with pytest.raises(InputError, match=f"image {path}: cannot be read"):
            module(photos, storage=storage).prepare_data()


def test_data_behind_a_link_are_the_same_data(photos: Path) -> None:
    (photos.parent / "deep" / "er").mkdir(parents=True)
    link = photos.parent / "deep" / "er" / "link"
    link.symlink_to(photos)
    digests = [
        module(f, storage="streamed", cache_dir=photos.parent / f"cache of {f.name}").arrays.digest
        for f in (photos, link)
    ]
    assert digests[0] == digests[1]


def test_folders_that_are_named_as_splits_are_no_classes(photos: Path) -> None:
    (photos / "cat").rename(photos / "Train")
    with pytest.raises(InputError, match="photos/Train: a split or a class?"):
        module(photos).prepare_data()


def test_a_file_that_changes_during_the_run_is_named(photos: Path) -> None:
    data = module(photos, storage="streamed", workers=2)
    batches = data.train_dataloader()
    split = data.arrays.splits["train"]
    assert isinstance(split, FileSplit)
    path = split.path(int(batches.indices[0]))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=f"image {path}: cannot be read"):
        list(batches)


def test_auto_streams_what_is_large(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert module(photos).storage == "prepared"
    monkeypatch.setattr(image_folder, "PREPARED", 1000)
    assert module(photos).storage == "streamed"
    assert "24 images are streamed, decoded in each epoch" in capsys.readouterr().out


def test_rectangles_and_resizing(photos: Path) -> None:
    data = module(photos, image_size=(24, 40), evaluation_resize=(30, 50), augment=None, workers=1)
    assert epoch(data)[0].shape == (4, 3, 24, 40)
    assert data.evaluation_resize == (30, 50)
    square = module(photos, image_size=(24, 40), augment=None)
    assert square.evaluation_resize is None
    assert epoch(square)[0].shape == (4, 3, 24, 40)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"evaluation_resize": 16}, "smaller than dataset.image_size=32, which is cropped from it; the nearest is 32"),
        ({"storage": "stream"}, "did you mean streamed"),
        ({"image_size": [32]}, "a side in pixels, such as 224, or height and width"),
        ({"test_fraction": 1.0}, "leaves nothing to train on"),
    ],
)
def test_wrong_options_are_refused(photos: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        module(photos, **options)


def test_test_images_are_held_out_and_stay_when_others_are_added(photos: Path) -> None:
    data = module(photos, test_fraction=0.25, storage="streamed")
    names = {split: {p.path(i).relative_to(photos) for i in range(p.samples)} for split, p in files(data).items()}
    assert len(names["test"]) == 6
    assert not names["test"] & names["train"]
    for i in range(4):
        photo(photos / "cat" / f"new{i}.png", (50, 50), 50 + i)
    again = files(module(photos, test_fraction=0.25, storage="streamed"))["test"]
    left = names["test"] - {again.path(i).relative_to(photos) for i in range(again.samples)}
    assert len(left) <= 1


def files(data: ImageFolderDataModule) -> dict[str, FileSplit]:
    return {name: split for name, split in data.arrays.splits.items() if isinstance(split, FileSplit)}


def test_classes_without_test_images_are_said(photos: Path, capsys: Any) -> None:
    (photos / "train").mkdir()
    for name in ("cat", "dog"):
        (photos / name).rename(photos / "train" / name)
    photo(photos / "test" / "dog" / "1.png", (50, 60), 9)
    data = module(photos)
    assert data.image_counts["test"] == 1
    assert f"{photos / 'test'}: no image of class cat" in capsys.readouterr().out
    photo(photos / "test" / "bird" / "1.png", (50, 60), 9)
    with pytest.raises(InputError, match="class folders differ from those of the training images: bird"):
        module(photos).arrays  # noqa: B018


@pytest.mark.parametrize("storage", ["prepared", "streamed"])
@pytest.mark.parametrize("options", [{}, {"augment": None}])
def test_file_names_are_those_of_the_images(storage: str, options: dict[str, Any], photos: Path) -> None:
    """Also with a file that is left out, and when the prepared data are opened again."""
    side = (32, 32) if options else (37, 37)
    decoded = {
        file: decode(file, (32, 32), side) for file in photos.rglob("*.*") if file.parts[-2:] != ("cat", "4.jpg")
    }
    (photos / "cat" / "4.jpg").write_bytes(b"no image")
    for _ in range(2):
        data = module(photos, storage=storage, on_error="skip", **options)
        for name, split in data.arrays.splits.items():
            for i in range(split.samples):
                file = photos / data.file_name(name, i)
                assert file.parent.name == data.class_names[int(split.labels[i])]
                seen = split.pictures(torch.tensor([i]))[0].numpy().astype(float)
                assert min(decoded, key=lambda other: np.abs(seen - decoded[other]).mean()) == file


def test_file_names_of_data_without_files_are_empty(tmp_path: Path) -> None:
    data = DigitsDataModule(cache_dir=tmp_path)
    assert data.file_name("test", 0) == ""
