import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stkd_lightning.data import (
    CIFAR10DataModule,
    CIFAR100DataModule,
    CINIC10DataModule,
    DigitsDataModule,
    ImageFolderDataModule,
    TinyImageNetDataModule,
)
from stkd_lightning.data.augment import CropAndFlip
from stkd_lightning.utilities.errors import InputError
from tests.data.conftest import dump, picture


def test_cifar100_pixels_are_those_of_the_pickle(cifar100_folder: Path, tmp_path: Path) -> None:
    data = CIFAR100DataModule(cifar100_folder.parent, cache_dir=tmp_path / "cache")
    rows = pickle.loads((cifar100_folder / "train").read_bytes())["data"]
    assert np.array_equal(data.arrays.splits["train"].images, rows.reshape(-1, 3, 32, 32))
    pixels = rows.reshape(-1, 3, 32, 32) / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 2, 3)))
    np.testing.assert_allclose(data.std, pixels.std((0, 2, 3)))
    if sys.platform == "linux":
        assert f"{data.arrays.folder}/train_images.npy" in Path("/proc/self/maps").read_text()


def test_cifar100_superclasses(cifar100_folder: Path, tmp_path: Path) -> None:
    data = CIFAR100DataModule(cifar100_folder.parent, cache_dir=tmp_path / "cache")
    assert data.superclasses == (0, 1, 0, 1)
    assert data.superclass_names == ("even", "odd")


@pytest.mark.parametrize("name", ["train", "meta"])
def test_cifar100_without_superclasses(name: str, cifar100_folder: Path, tmp_path: Path) -> None:
    digest = CIFAR100DataModule(cifar100_folder.parent, cache_dir=tmp_path / "cache").arrays.digest
    content = pickle.loads((cifar100_folder / name).read_bytes())
    dump(cifar100_folder / name, {k: v for k, v in content.items() if not k.startswith("coarse")})
    data = CIFAR100DataModule(cifar100_folder.parent, cache_dir=tmp_path / "cache")
    assert data.superclasses is data.superclass_names is None
    assert data.arrays.digest == digest


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (lambda fine: [0, *[n % 2 for n in fine[1:-1]], 0], "class 'd' has several superclasses: 'even' and 'odd'"),
        (lambda fine: [7] * len(fine), "coarse label 7, but 2 superclass names"),
        (lambda fine: [0], "'coarse_labels' is not a list of 40 whole numbers"),
    ],
)
def test_coarse_labels_must_fit(
    labels: Callable[[list[int]], list[int]], words: str, cifar100_folder: Path, tmp_path: Path
) -> None:
    content = pickle.loads((cifar100_folder / "train").read_bytes())
    dump(cifar100_folder / "train", {**content, "coarse_labels": labels(content["fine_labels"])})
    with pytest.raises(InputError, match=f"cifar-100-python/train: {words}"):
        CIFAR100DataModule(cifar100_folder.parent, cache_dir=tmp_path / "cache").prepare_data()


def test_prepared_once_and_anew_when_the_files_change(cifar100_folder: Path, tmp_path: Path) -> None:
    first = CIFAR100DataModule(cifar100_folder.parent, cache_dir=tmp_path / "cache").arrays
    again = CIFAR100DataModule(cifar100_folder.parent, cache_dir=tmp_path / "cache").arrays
    assert again.folder == first.folder
    content = pickle.loads((cifar100_folder / "train").read_bytes())
    for key in ("data", "fine_labels", "coarse_labels"):
        content[key] = content[key][:-4]
    dump(cifar100_folder / "train", content)
    changed = CIFAR100DataModule(cifar100_folder.parent, cache_dir=tmp_path / "cache").arrays
    assert changed.folder != first.folder
    assert len(changed.splits["train"].labels) == 36
    assert changed.digest != first.digest


def test_parallel_jobs_prepare_once(cifar100_folder: Path, tmp_path: Path) -> None:
    code = (
        "from stkd_lightning.data import CIFAR100DataModule as D; import sys;"
        "d = D(sys.argv[1], cache_dir=sys.argv[2]); print(len(d.arrays.splits['train'].labels))"
    )
    arguments = [sys.executable, "-c", code, str(cifar100_folder.parent), str(tmp_path / "cache")]
    jobs = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [job.communicate(timeout=120)[0].strip() for job in jobs] == ["40"] * 3
    assert len([p for p in (tmp_path / "cache" / "data").iterdir() if p.is_dir()]) == 1


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


def damage(content: dict[str, Any], how: str) -> Any:
    return {
        "hostile": Hostile(),
        "hostile inside": {**content, "filenames": Hostile()},
        "no data": {k: v for k, v in content.items() if k != "data"},
        "wrong shape": {**content, "data": content["data"][:, :100]},
        "too few labels": {**content, "fine_labels": content["fine_labels"][:-1]},
        "foreign label": {**content, "fine_labels": [99] * len(content["fine_labels"])},
        "a list": [1, 2],
    }[how]


@pytest.mark.parametrize(
    "how", ["hostile", "hostile inside", "no data", "wrong shape", "too few labels", "foreign label", "a list"]
)
def test_pickles_are_read_with_suspicion(
    how: str, cifar100_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.loads((cifar100_folder / "train").read_bytes())
    dump(cifar100_folder / "train", damage(content, how))
    with pytest.raises(InputError, match="cifar-100-python/train: "):
        CIFAR100DataModule(cifar100_folder.parent, cache_dir=tmp_path / "cache").prepare_data()
    assert not (tmp_path / "executed").exists()
    assert not [p for p in (tmp_path / "cache" / "data").iterdir() if p.is_dir()]


def test_a_truncated_pickle_is_named(cifar100_folder: Path, tmp_path: Path) -> None:
    whole = (cifar100_folder / "train").read_bytes()
    (cifar100_folder / "train").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cifar-100-python/train: damaged or refused .* delete"):
        CIFAR100DataModule(cifar100_folder.parent, cache_dir=tmp_path / "cache").prepare_data()


def test_a_corrupt_image_is_named_and_nothing_kept(cinic10_folder: Path, tmp_path: Path) -> None:
    (cinic10_folder / "train" / "dog" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    data = CINIC10DataModule(cinic10_folder.parent, cache_dir=tmp_path / "cache")
    with pytest.raises(InputError, match=r"image .*/train/dog/1.png: cannot be read"):
        data.prepare_data()
    assert not [p for p in (tmp_path / "cache" / "data").iterdir() if p.is_dir()]
    picture(cinic10_folder / "train" / "dog" / "1.png")
    data.prepare_data()


def test_cinic10_has_its_own_validation(cinic10_folder: Path, tmp_path: Path) -> None:
    data = CINIC10DataModule(cinic10_folder.parent, cache_dir=tmp_path / "cache", batch_size=2)
    loader = data.val_dataloader()
    assert not isinstance(loader, list)
    assert sum(len(batch.labels) for batch in loader) == 4
    assert len(data.train_dataloader().indices) == 6


def test_tiny_imagenet_annotations_must_fit(tiny_imagenet_folder: Path, tmp_path: Path) -> None:
    (tiny_imagenet_folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn99\t0\t0\t1\t1\n")
    with pytest.raises(InputError, match="names a class that is not in train: n99"):
        TinyImageNetDataModule(tiny_imagenet_folder.parent, cache_dir=tmp_path / "cache").prepare_data()


@pytest.fixture
def own_images(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for split, count in (("train", 10), ("test", 3)):
        for name in ("cat", "dog"):
            for i in range(count):
                picture(folder / split / name / f"{i}.jpg", (40 + i, 70), "L" if i % 2 else "RGB")
    return folder


def test_own_images_of_any_size(own_images: Path, tmp_path: Path) -> None:
    data = ImageFolderDataModule(own_images, image_size=48, cache_dir=tmp_path / "cache", batch_size=4)
    assert data.class_names == ("cat", "dog")
    assert data.arrays.splits["train"].images.shape == (20, 3, 48, 48)
    assert len(data.train_dataloader().indices) == 18  # a tenth of each class is held out
    assert data.augmentation == CropAndFlip(padding=6, flip=True)


def test_an_own_image_replaced_in_place_is_noticed(own_images: Path, tmp_path: Path) -> None:
    before = ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").arrays
    picture(own_images / "train" / "cat" / "0.jpg", (90, 90))
    after = ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").arrays
    assert after.digest != before.digest


def test_own_images_are_cropped_centrally(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("a", "b"):
            image = np.zeros((16, 32, 3), dtype=np.uint8)
            image[:, 8:24] = 200 if name == "a" else 100
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(image).save(tmp_path / split / name / "x.png")
    data = ImageFolderDataModule(tmp_path, image_size=16, cache_dir=tmp_path / "cache")
    images = data.arrays.splits["train"].images
    assert (images[0] == 200).all()
    assert (images[1] == 100).all()


def test_own_classes_of_one_image_cannot_be_held_out(own_images: Path, tmp_path: Path) -> None:
    for path in own_images.glob("train/*/[1-9].jpg"):
        path.unlink()
    data = ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache", batch_size=1)
    with pytest.raises(InputError, match="validation_fraction=0.1: no class has 2 training images"):
        data.val_dataloader()
    picture(own_images / "train" / "cat" / "1.jpg")
    data = ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache", batch_size=1)
    assert len(data.train_dataloader().indices) == 2


def damage_some(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"\xff\xd8nothing")


SOME = ("train/cat/3.jpg", "train/dog/0.jpg", "test/dog/2.jpg")


def test_damaged_images_are_listed_together(own_images: Path, tmp_path: Path) -> None:
    damage_some(own_images, *SOME)
    with pytest.raises(InputError) as caught:
        ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").prepare_data()
    assert str(caught.value) == (
        f"3 images cannot be read: {'; '.join(f'{own_images / name} (damaged or not an image)' for name in SOME)}; "
        "replace or delete them, or set dataset.on_error=skip"
    )
    assert not [p for p in (tmp_path / "cache" / "data").iterdir() if p.is_dir()]


def test_many_damaged_images_are_counted(own_images: Path, tmp_path: Path) -> None:
    damage_some(own_images, *(f"train/{name}/{i}.jpg" for name in ("cat", "dog") for i in range(6)))
    with pytest.raises(InputError, match=r"^12 images cannot be read: .*dog/3.jpg \(.*\); and 2 more; replace"):
        ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").prepare_data()


def test_damaged_images_are_skipped(own_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage_some(own_images, *SOME)
    skipped = ImageFolderDataModule(own_images, on_error="skip", cache_dir=tmp_path / "cache").arrays
    assert ": left out 3 of 26 images, which cannot be read: " in capsys.readouterr().out
    assert {s: tuple(split.images.shape) for s, split in skipped.splits.items()} == {
        "train": (18, 3, 64, 64), "test": (5, 3, 64, 64)
    }  # fmt: skip
    assert skipped.splits["train"].labels.tolist() == [0] * 9 + [1] * 9
    with pytest.raises(InputError, match="3 images cannot be read"):  # what was skipped is not in another run's data
        ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").prepare_data()
    for name in SOME:
        (own_images / name).unlink()
    whole = ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").arrays
    assert (whole.digest, whole.mean) == (skipped.digest, skipped.mean)


@pytest.mark.parametrize("split", ["train", "test"])
def test_class_without_readable_images_is_refused(split: str, own_images: Path, tmp_path: Path) -> None:
    damage_some(own_images, *(str(p.relative_to(own_images)) for p in own_images.glob(f"{split}/dog/*")))
    with pytest.raises(InputError, match=f"no image of class dog in its {split} split can be read: .*; replace them"):
        ImageFolderDataModule(own_images, on_error="skip", cache_dir=tmp_path / "cache").prepare_data()
    with pytest.raises(InputError, match="dataset.on_error 'skipp': unknown; did you mean skip?"):
        ImageFolderDataModule(own_images, on_error="skipp")


def test_own_images_all_of_one_value_are_refused(own_images: Path, tmp_path: Path) -> None:
    for path in own_images.rglob("*.jpg"):
        Image.new("RGB", (40, 40), "white").save(path)
    with pytest.raises(InputError, match="pixels of its train split have almost the same value .*0.00 of 255 levels"):
        ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").prepare_data()
    assert not [p for p in (tmp_path / "cache" / "data").iterdir() if p.is_dir()]


def test_own_images_left_out_are_named(own_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train/cat/a.heic", "train/dog/b.HEIC", "train/dog/.hidden.jpg", "train/list.txt", "valid/cat/a.jpg"):
        (own_images / name).parent.mkdir(parents=True, exist_ok=True)
        (own_images / name).write_bytes(b"")
    ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").prepare_data()
    lines = capsys.readouterr().out.splitlines()
    assert f"{own_images / 'train'}: files not read: .heic 2, hidden 1, outside a class folder 1" in lines
    assert f"{own_images}: folders not read: valid; validation images are held out of train" in lines[0]


def test_own_class_of_other_files_is_refused(own_images: Path, tmp_path: Path) -> None:
    for path in (own_images / "train" / "cat").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(InputError, match=r"train/cat: contains no image, only other files: .heic 10"):
        ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").prepare_data()


def test_own_images_behind_links(own_images: Path, tmp_path: Path) -> None:
    direct = ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").arrays
    elsewhere = tmp_path / "elsewhere"
    (own_images / "train" / "cat").rename(elsewhere)
    (own_images / "train" / "cat").symlink_to(elsewhere)
    (elsewhere / "again").symlink_to(own_images / "train" / "cat")
    linked = ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").arrays
    assert linked.digest == direct.digest
    picture(elsewhere / "0.jpg", (90, 90))
    assert ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").arrays.digest != direct.digest
    (own_images / "train" / "wolf").symlink_to(own_images)
    with pytest.raises(InputError, match="train/wolf: a link to a folder that contains it; delete this link"):
        ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").prepare_data()


def test_own_images_with_missing_or_odd_folders(own_images: Path, tmp_path: Path) -> None:
    (own_images / "test" / "dog").rename(own_images / "test" / "wolf")
    with pytest.raises(InputError, match="class folders differ from those of the training images: wolf"):
        ImageFolderDataModule(own_images, cache_dir=tmp_path / "cache").prepare_data()
    with pytest.raises(InputError, match=r"photos/nope is missing; expected .*\{train,val,test\}/CLASS/IMAGE"):
        ImageFolderDataModule(own_images, test_folder="nope", cache_dir=tmp_path / "cache").prepare_data()


def test_digits_are_real_and_whole() -> None:
    data = DigitsDataModule()
    splits = data.arrays.splits
    assert splits["train"].images.shape[1:] == (3, 8, 8)
    assert len(splits["train"].labels) + len(splits["test"].labels) == 1797
    assert data.class_names == tuple("0123456789")
    assert np.bincount(splits["test"].labels).min() >= 43
    assert splits["train"].images.max() == 255


def test_without_validation_all_images_train() -> None:
    data = DigitsDataModule(validation_fraction=0)
    assert data.val_dataloader() == []
    assert len(data.train_dataloader().indices) == len(data.arrays.splits["train"].labels)
    with pytest.raises(InputError, match="leaves nothing to train on"):
        DigitsDataModule(validation_fraction=1)


def test_real_cifar100(real_data: Path) -> None:
    data = CIFAR100DataModule(real_data)
    assert data.num_classes == 100
    assert np.bincount(data.arrays.splits["train"].labels).tolist() == [500] * 100
    np.testing.assert_allclose(data.mean, (0.5071, 0.4865, 0.4409), atol=1e-4)
    np.testing.assert_allclose(data.std, (0.2673, 0.2564, 0.2762), atol=1e-4)
    train, held = data.train_dataloader().indices, data._train_and_held_out[1]
    assert (len(train), len(held)) == (45_000, 5_000)


def test_real_cifar10_and_tiny_imagenet(real_data: Path) -> None:
    assert CIFAR10DataModule(real_data).arrays.splits["train"].images.shape == (10_000, 3, 32, 32)
    tiny = TinyImageNetDataModule(real_data)
    assert tiny.arrays.splits["train"].images.shape == (10_000, 3, 64, 64)
    assert tiny.arrays.splits["test"].images.shape == (2_000, 3, 64, 64)
    assert "goldfish" in tiny.class_names
