"""A user's own images with masks: what is read, and what each mistake says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stkd_lightning.data import ImageMaskFolderDataModule
from stkd_lightning.data.arrays import MaskedSplit
from stkd_lightning.utilities.errors import InputError
from tests.conftest import Command
from tests.data.mask_files import write_image, write_mask

SIDES = [(12, 16), (16, 12), (14, 20), (12, 16), (12, 16)]  # unequal


def values(height: int, width: int) -> Any:
    mask = np.arange(height * width).reshape(height, width) % 3
    mask[0] = 255
    return mask


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 5 training and 3 test images of unequal sides; masks of index and of palette PNGs."""
    folder = tmp_path / "photos"
    for split, count in (("train", 5), ("test", 3)):
        for i in range(count):
            write_image(folder / split / "images" / f"{i}.jpg", *SIDES[i], seed=i)
            write_mask(folder / split / "masks" / f"{i}.png", values(*SIDES[i]), palette=i % 2 == 1)
    (folder / "classes.txt").write_text("ground\nroad\nred car\n")
    return folder


def made(folder: Path, **options: Any) -> ImageMaskFolderDataModule:
    return ImageMaskFolderDataModule(folder, cache_dir=folder.parent / "cache", **options)


def train_of(data: ImageMaskFolderDataModule) -> MaskedSplit:
    split = data.arrays.splits["train"]
    assert isinstance(split, MaskedSplit)
    return split


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        made(folder, **options).prepare_data()
    return str(caught.value)


def test_own_masks_of_unequal_sides(photos: Path) -> None:
    data = made(photos, crop=(8, 8), batch_size=2)
    assert data.class_names == ("ground", "road", "red car")
    split = train_of(data)
    assert [tuple(size) for size in split.sizes.tolist()] == SIDES
    for i, size in enumerate(SIDES):
        assert np.array_equal(split.mask(i), values(*size))
    batch = next(iter(data.train_dataloader()))
    assert (tuple(batch.images.shape), tuple(batch.labels.shape)) == ((2, 3, 8, 8), (2, 8, 8))
    assert data.image_counts == {"validation": 1, "test": 3}
    with pytest.raises(InputError, match="dataset.crop=null: the images of image_mask_folder have unequal sides"):
        made(photos).train_dataloader()


def test_own_masks_with_a_validation_folder_and_other_names(photos: Path) -> None:
    digest = made(photos).arrays.digest
    (photos / "train").rename(photos / "training")
    for split in ("training", "test"):
        (photos / split / "images").rename(photos / split / "jpg")
        (photos / split / "masks").rename(photos / split / "index")
    names = {"train_folder": "training", "images_folder": "jpg", "masks_folder": "index"}
    assert made(photos, **names).arrays.digest == digest
    write_image(photos / "val" / "jpg" / "a.png", 12, 16)
    write_mask(photos / "val" / "index" / "a.png", values(12, 16))
    assert made(photos, **names).image_counts == {"validation": 1, "test": 3}


@pytest.mark.parametrize("ignored", [0, 7, 255, None])
def test_own_ignored_value(ignored: int | None, photos: Path) -> None:
    first = 1 if ignored == 0 else 0
    for path in photos.glob("*/masks/*.png"):
        mask = np.arange(np.prod(Image.open(path).size[::-1])).reshape(Image.open(path).size[::-1]) % 3 + first
        mask[0] = first if ignored is None else ignored
        write_mask(path, mask)
    labels = np.arange(12 * 16).reshape(12, 16) % 3
    labels[0] = 0 if ignored is None else 255
    assert np.array_equal(train_of(made(photos, ignore_value=ignored)).mask(0), labels)


def test_own_class_names_of_the_option(photos: Path) -> None:
    by_file = made(photos).arrays
    (photos / "classes.txt").write_bytes("\ufeffground \r\nroad\r\nred car\r\n\r\n".encode())
    assert made(photos).class_names == ("ground", "road", "red car")
    (photos / "classes.txt").unlink()
    data = made(photos, class_names=["a", "b", "c"])
    assert data.class_names == ("a", "b", "c")
    assert data.arrays.digest == by_file.digest
    assert data.arrays.folder != by_file.folder


def write_classes(text: str) -> Callable[[Path], None]:
    def write(photos: Path) -> None:
        (photos / "classes.txt").write_text(text)

    return write


def resize_mask(photos: Path) -> None:
    write_mask(photos / "train/masks/2.png", values(20, 14))


def colour_mask(photos: Path) -> None:
    Image.open(photos / "train/masks/1.png").convert("RGB").save(photos / "train/masks/1.png")


def ignore_all(photos: Path) -> None:
    write_mask(photos / "train/masks/1.png", np.full(SIDES[1], 255))


def foreign_value(photos: Path) -> None:
    mask = values(*SIDES[0])
    mask[3, :2] = 3
    write_mask(photos / "test/masks/0.png", mask)


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no mask": (
        lambda photos: (photos / "train/masks/3.png").rename(photos / "3.png"),
        "image without mask: {}/train/images/3.jpg; each image needs a PNG of its name in {}/train/masks, and",
    ),
    "no image": (
        lambda photos: [(photos / f"test/images/{i}.jpg").rename(photos / f"{i}.jpg") for i in range(2)],
        "mask without image: {}/test/masks/0.png, 1.png; each image needs",
    ),
    "two of a name": (
        lambda photos: write_image(photos / "train/images/3.png", 12, 16),
        "{}/train/images/3.jpg: another file has this name with another ending; delete one of them",
    ),
    "no images": (
        lambda photos: [path.rename(path.with_suffix(".heic")) for path in photos.glob("train/images/*")],
        "{}/train/images: contains no image, only other files: .heic 5",
    ),
    "size": (
        resize_mask,
        "image {}/train/images/2.jpg: 20 x 14 pixels, but its mask {}/train/masks/2.png has 14 x 20; save both at",
    ),
    "colours": (
        colour_mask,
        "mask {}/train/masks/1.png: cannot be read (its pixels are RGB colours; a mask needs one class index a pixel",
    ),
    "all ignored": (ignore_all, "mask {}/train/masks/1.png: all its pixels are ignored; label it"),
    "value": (
        foreign_value,
        "mask {}/test/masks/0.png: value 3 in 2 of 192 pixels, but classes are 0 to 2 and ignored is 255; "
        "set dataset.ignore_value=3, or name the class of each value",
    ),
    "damaged image": (
        lambda photos: (photos / "test/images/1.jpg").write_bytes(b"\xff\xd8nothing"),
        "image {}/test/images/1.jpg: cannot be read (damaged or not an image); replace or delete it",
    ),
    "no classes": (
        lambda photos: (photos / "classes.txt").rename(photos / "names.txt"),
        "{}/classes.txt: cannot be read (No such file or directory); write a class name on each line, or set dataset.",
    ),
    "one class": (write_classes("a\n"), "{}/classes.txt: 1 names; a mask has 2 to 255 classes"),
    "empty class": (write_classes("a\n\nb\n"), "{}/classes.txt: name 2 is empty; a name on each line"),
    "class twice": (write_classes("a\nb\na\n"), "{}/classes.txt: 'a' is there 2 times; names must differ"),
    "classes alike": (
        write_classes("a/b\nc\na_b\n"),
        "{}/classes.txt: metrics write 'a/b' and 'a_b' as 'a_b'; names must differ in letters or digits",
    ),
    "no masks folder": (
        lambda photos: (photos / "test/masks").rename(photos / "test/labels"),
        "dataset image_mask_folder: {}/test/masks is missing; expected {}/{{train,val,test}}/{{images,masks}}/ "
        "(val is optional; if this folder has another name: dataset.masks_folder=NAME)",
    ),
    "no train folder": (
        lambda photos: (photos / "train").rename(photos / "Train2"),
        "dataset image_mask_folder: {}/train is missing; expected",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_own_mistake_is_named(mistake: str, photos: Path) -> None:
    make, words = MISTAKES[mistake]
    make(photos)
    assert refusal(photos).startswith(words.format(*[photos] * words.count("{}")))
    assert not list((photos.parent / "cache" / "data").glob("*/facts.json"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"ignore_value": 1},
            "dataset.ignore_value=1: is the value of class 'road'; it must be at least 3, or 0: then ",
        ),
        ({"ignore_value": 256}, "dataset.ignore_value=256: must be at most 255"),
        ({"class_names": "a"}, "dataset.class_names=a: must be a list, such as [background,road]"),
        ({"class_names": 5}, "dataset.class_names=5: must be a list"),
        ({"masks_folder": 5}, "dataset.masks_folder=5: must be the name of a file or folder"),
        ({"class_names": ["a"]}, "dataset.class_names: 1 names; a mask has 2 to 255 classes"),
    ],
)
def test_own_options_that_do_not_fit(options: dict[str, Any], words: str, photos: Path) -> None:
    assert refusal(photos, **options).startswith(words)


def test_own_hidden_and_other_files_are_left_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = made(photos).arrays.digest
    for name in ("images/.0.jpg", "masks/.1.png", "images/notes.txt"):
        (photos / "train" / name).write_bytes(b"")
    assert made(photos).arrays.digest == digest
    assert f"{photos}/train/images: files not read: .txt 1, hidden 1" in capsys.readouterr().out


def test_own_folders_behind_links(photos: Path, tmp_path: Path) -> None:
    first = made(photos).arrays
    (photos / "train" / "masks").rename(tmp_path / "elsewhere")
    (photos / "train" / "masks").symlink_to(tmp_path / "elsewhere")
    assert made(photos).arrays.digest == first.digest
    mask = values(*SIDES[0])
    mask[5] = 1
    write_mask(tmp_path / "elsewhere" / "0.png", mask)
    assert made(photos).arrays.digest != first.digest


def test_own_masks_in_folders_of_their_own(photos: Path) -> None:
    digest = made(photos).arrays.digest
    for kind, end in (("images", "jpg"), ("masks", "png")):
        (photos / "train" / kind / "day").mkdir()
        (photos / "train" / kind / f"0.{end}").rename(photos / "train" / kind / "day" / f"0.{end}")
        (photos / "train" / kind / "day").rename(photos / "train" / kind / "0")
    assert sorted(made(photos).arrays.splits) == ["test", "train"]
    assert made(photos).arrays.digest == digest
    (photos / "train/masks/0").rename(photos / "train/masks/night")
    assert refusal(photos).startswith(f"image without mask: {photos}/train/images/0/0.jpg; ")


def test_own_masks_are_refused_before_training(command: Command, photos: Path, tmp_path: Path) -> None:
    colour_mask(photos)
    options = ["dataset=image_mask_folder", f"dataset.data_dir={photos}", "dataset.crop=[8,8]", "trainer=cpu",
               "student=dilated_resnet", "teacher=dilated_resnet", "logger=csv", "hydra.run.dir=run"]  # fmt: skip
    done = command("train", *options)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        f"error: mask {photos}/train/masks/1.png: cannot be read (its pixels"
    )
    assert not (tmp_path / "run" / "checkpoints").exists()
