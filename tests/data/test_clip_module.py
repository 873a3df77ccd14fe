"""Clips with tags: prepared, cut, padded and augmented, in memory and by workers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stkd_lightning.data import AudioFolderDataModule, ClipDataModule, ImageFolderDataModule, clip_module
from stkd_lightning.data.audio_files import LEVELS, read_audio
from stkd_lightning.data.clip_arrays import ClipSplit
from stkd_lightning.data.clip_augment import BELOW_1, ClipAugmentation
from stkd_lightning.data.integrity import is_intact
from stkd_lightning.data.open_arrays import open_arrays
from stkd_lightning.tasks.clips import split_clips
from stkd_lightning.utilities.errors import InputError
from tests.data.sounds import PITCHES, RATE, write_sounds

COUNTS = {"train": 16, "val": 8, "test": 8}


def made(folder: Path, seconds: tuple[float, ...] = (0.5,), **options: Any) -> AudioFolderDataModule:
    if not (folder / "sounds").is_dir():
        write_sounds(folder / "sounds", COUNTS, seconds)
    return AudioFolderDataModule(
        folder / "sounds", sample_rate=RATE, cache_dir=folder / "cache", **{"batch_size": 4, **options}
    )


def train_of(data: ClipDataModule) -> ClipSplit:
    return data.train_split


def test_prepared_clips_are_those_of_the_files(tmp_path: Path) -> None:
    data = made(tmp_path, (0.5, 0.3))
    assert data.class_names == tuple(sorted(PITCHES))
    assert (data.input_shape, data.image_size, data.image_counts) == ((4000,), 4000, {"validation": 8, "test": 8})
    split = train_of(data)
    for i in range(4):
        assert split.clip(i).tolist() == read_audio(tmp_path / "sounds" / "train" / f"{i}.wav", RATE).tolist()
    assert data.task.prevalence == pytest.approx(0.5)
    assert is_intact(open_arrays(data.arrays.folder))
    other = AudioFolderDataModule(tmp_path / "sounds", sample_rate=4000, cache_dir=tmp_path / "cache")
    assert other.arrays.digest != data.arrays.digest


def test_damaged_arrays_are_prepared_again(tmp_path: Path) -> None:
    data = made(tmp_path)
    folder = data.arrays.folder
    path = folder / "train_images.npy"
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    again = made(tmp_path)
    assert again.arrays.digest == data.arrays.digest
    assert is_intact(open_arrays(again.arrays.folder))


def test_equal_clips_have_no_mask(tmp_path: Path) -> None:
    batch = next(iter(made(tmp_path).train_dataloader()))
    assert batch.inputs.shape == (4, 4000)
    assert batch.inputs.dtype == torch.float32
    assert float(batch.inputs.abs().max()) <= 1
    assert batch.labels.shape == (4, 3)


def test_shorter_clips_are_padded_and_longer_ones_are_cut(tmp_path: Path) -> None:
    data = made(tmp_path, (0.5, 0.3), length=0.4)
    batch = next(iter(data.train_dataloader()))
    waveforms, mask = split_clips(batch.inputs)
    assert mask is not None
    assert batch.inputs.shape == (4, 2, 3200)
    for waveform, valid, index in zip(waveforms, mask, batch.indices, strict=True):
        clip = train_of(data).clip(int(index)).float() / LEVELS
        assert int(valid.sum()) == min(3200, len(clip))
        assert not waveform[~valid].any()
        positions = clip.unfold(0, int(valid.sum()), 1)
        assert (positions == waveform[valid]).all(1).any()  # a part of the clip
    whole = next(iter(data.val_dataloader()))
    assert whole.inputs.shape == (8, 2, 4000)


@pytest.mark.parametrize("seconds", [(0.5,), (0.5, 0.3)])
def test_batches_are_equal_resident_and_from_workers(seconds: tuple[float, ...], tmp_path: Path) -> None:
    options = {"time_shift": 0.1, "time_masks": 2, "band_masks": 1, "length": 0.4}
    loaders = [made(tmp_path, seconds, resident=r, workers=1, **options).train_dataloader() for r in (True, False)]
    for batches in zip(*loaders, strict=True):
        for first, second in zip(batches[0][:3], batches[1][:3], strict=True):
            assert torch.equal(first, second)


def split_of(clips: list[np.ndarray]) -> ClipSplit:
    lengths = torch.tensor([len(clip) for clip in clips])
    waveforms = torch.from_numpy(np.concatenate(clips))
    return ClipSplit.of(waveforms, torch.zeros(len(clips), 1, dtype=torch.int64), lengths)


def test_augmentation_is_a_function_of_seed_epoch_and_sample(tmp_path: Path) -> None:
    augmentation = ClipAugmentation(100, 10, 1, 0.2, 1, 0.2, 1000)
    one, other = augmentation.draw(np.array([3, 5]), seed=0, epoch=1), augmentation.draw(np.array([5]), seed=0, epoch=1)
    assert all(torch.equal(a[1:], b) for a, b in zip(one, other, strict=True))
    changed = augmentation.draw(np.array([5]), seed=0, epoch=2)
    assert not any(torch.equal(a, b) for a, b in zip(other, changed, strict=True))


def test_turn_keeps_all_samples() -> None:
    split = split_of([np.arange(1, 9, dtype=np.int16), np.arange(1, 6, dtype=np.int16)])
    turned = split.cut(torch.tensor([0, 1]), 8, None, torch.tensor([2, -1]))
    assert turned[0, 0].tolist() == [7, 8, 1, 2, 3, 4, 5, 6]
    assert turned[1, 0].tolist() == [2, 3, 4, 5, 1, 0, 0, 0]
    assert turned[1, 1].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]


def test_masks_silence_time_and_bands() -> None:
    """A tone in the removed band vanishes, and a part of the clip is silent."""
    time = np.arange(4000) / RATE
    clip = (8000 * np.sin(2 * np.pi * 1000 * time)).astype(np.int16)
    split, index = split_of([clip]), torch.tensor([0])
    silent = ClipAugmentation(4000, time_masks=1, time_mask=0.5, sample_rate=RATE)
    draws = (torch.zeros(1), torch.zeros(1), torch.tensor([0.5]), torch.tensor([1.0]))  # crop, shift, place, width
    waveform = silent.images(split, index, draws)[0]
    assert not waveform[1000:3000].any()
    assert waveform[:1000].abs().max() > 7000
    assert waveform[3000:].abs().max() > 7000
    banded = ClipAugmentation(4000, band_masks=1, band_mask=0.5, sample_rate=RATE)
    kept = [float(banded.images(split, index, (*draws[:2], torch.tensor([p]), torch.tensor([1.0]))).abs().max())
            for p in (0.0, 1.0)]  # fmt: skip
    mel = np.log1p(np.array([1000, 4000]) / 700)
    assert mel[0] / mel[1] < 0.5
    assert kept[0] < 100
    assert kept[1] > 7000


def test_bad_clip_is_named_before_training(tmp_path: Path) -> None:
    data = made(tmp_path)
    (tmp_path / "sounds" / "train" / "3.wav").write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"clip .*train/3.wav: cannot be read"):
        data.prepare_data()


def test_options_are_checked(tmp_path: Path) -> None:
    for options, words in (
        ({"length": -1}, "dataset.length=-1"),
        ({"time_mask": 2}, "dataset.time_mask=2"),
        ({"sampler": "class_uniform"}, "dataset.sampler=class_uniform: clips have no single class"),
    ):
        with pytest.raises(InputError, match=words):
            made(tmp_path, **options)
    with pytest.raises(InputError, match="labels.csv is missing; it needs the columns file,tags,split"):
        AudioFolderDataModule(tmp_path, cache_dir=tmp_path / "cache").prepare_data()


def test_images_may_have_tags(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    rows = ["file,tags,split"]
    for i in range(12):
        Image.fromarray(np.full((16, 16, 3), 20 * i, np.uint8)).save(tmp_path / "photos" / f"{i}.png")
        split = "train" if i < 8 else "test"
        rows.append(f"{i}.png,{'dark' * (i < 6)};{'even' * (i % 2 == 0)},{split}")
    (tmp_path / "photos" / "labels.csv").write_text("\n".join(rows))
    data = ImageFolderDataModule(
        tmp_path / "photos", labels="labels.csv", image_size=8, cache_dir=tmp_path / "cache", batch_size=4,
        validation_fraction=0.25,
    )  # fmt: skip
    assert data.class_names == ("dark", "even")
    assert data.task.name == "tagging"
    assert data.image_counts == {"validation": 2, "test": 4}
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs.shape == (4, 3, 8, 8)
    assert batch.labels.shape == (4, 2)


def test_the_largest_draw_is_the_last_part_of_a_clip() -> None:
    """Draws are below 1, but their product with the number of parts can be rounded up to it."""
    waveforms = torch.arange(1, 9, dtype=torch.int16)
    split = ClipSplit(waveforms, torch.zeros(2, 1).long(), torch.tensor([4, 4]), torch.tensor([0, 4]), 4, 4)
    below = torch.full((2,), float(BELOW_1))
    for length in (3, 4):
        clips = ClipAugmentation(length).images(split, torch.arange(2), (below, below))
        assert clips[:, -1].tolist() == [4, 8]
    draws = ClipAugmentation(4).draw(np.arange(1000), seed=0, epoch=0)
    assert max(float(draw.max()) for draw in draws) <= BELOW_1 < 1


def test_files_anywhere_may_be_named(tmp_path: Path) -> None:
    """By their absolute paths, outside of the folder of the table."""
    write_sounds(tmp_path / "there", COUNTS)
    (tmp_path / "here").mkdir()
    rows = (tmp_path / "there" / "labels.csv").read_text().splitlines()
    absolute = [rows[0], *(f"{tmp_path}/there/{row}" for row in rows[1:])]
    (tmp_path / "here" / "labels.csv").write_text("\n".join(absolute) + "\n")
    there, here = (
        AudioFolderDataModule(tmp_path / name, sample_rate=RATE, cache_dir=tmp_path / "cache")
        for name in ("there", "here")
    )
    assert here.arrays.digest == there.arrays.digest


def test_long_recordings_are_evaluated_in_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(next(iter(made(tmp_path).test_dataloader())).labels) == 8
    monkeypatch.setattr(clip_module, "LARGEST_EVALUATED", 10_000)
    assert len(next(iter(made(tmp_path).test_dataloader())).labels) == 2
    monkeypatch.setattr(clip_module, "LARGEST_BATCH", 15_999)
    with pytest.raises(InputError, match=r"dataset.length=null: a batch of 4 clips of 0 s does not fit"):
        made(tmp_path).train_dataloader()
    assert made(tmp_path, length=0.25).input_shape == (2000,)


def test_images_may_have_a_single_tag(tmp_path: Path) -> None:
    rows = ["file,tags,split"]
    for i, split in enumerate(["train"] * 4 + ["test"] * 2):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'dog' if i % 2 else ''},{split}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    data = ImageFolderDataModule(tmp_path, labels="labels.csv", image_size=8, cache_dir=tmp_path / "cache")
    assert data.arrays.splits["train"].labels.tolist() == [[0], [1], [0], [1]]
