"""A user's own images with masks: folders of both in each split."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stkd_lightning.data.arrays import RawData
from stkd_lightning.data.image_files import images_below, kinds_of, say_left_out
from stkd_lightning.data.mask_module import MaskDataModule
from stkd_lightning.data.mask_pairs import Pair, pair_up, read_pairs
from stkd_lightning.data.mask_values import MaskValues
from stkd_lightning.data.split_folders import split_folders, visible_paths
from stkd_lightning.data.text_file import read_text
from stkd_lightning.tasks.segmentation import IGNORED
from stkd_lightning.tasks.segmentation_metrics import loggable
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError


class ImageMaskFolderDataModule(MaskDataModule):
    """Images in ``data_dir/{train,val,test}/images/`` and masks of equal names in ``data_dir/{train,val,test}/masks/``.

    Masks are index or palette PNGs. The classes are the values from 0 in the order of their names; if 0 is ignored,
    those from 1. Without a validation folder, validation images are held out of the training images.

    Args:
        data_dir: folder of the splits.
        class_names: names of the classes; ``None``: the lines of ``classes_file``.
        classes_file: text file in ``data_dir`` with a class name on each line.
        ignore_value: value of pixels without class; ``None``: each pixel has a class.
        images_folder: name of the folder of images in a split.
        masks_folder: name of the folder of masks in a split.
        train_folder: name of the training folder.
        val_folder: name of the validation folder; it may be missing.
        test_folder: name of the test folder.
        options: those of ``MaskDataModule``.

    Raises:
        InputError: while preparing, a missing folder or list of classes, and whatever ``read_pairs`` refuses.
    """

    name = "image_mask_folder"

    def __init__(
        self,
        data_dir: str | Path = "data",
        *,
        class_names: Sequence[str] | None = None,
        classes_file: str = "classes.txt",
        ignore_value: int | None = 255,
        images_folder: str = "images",
        masks_folder: str = "masks",
        train_folder: str = "train",
        val_folder: str = "val",
        test_folder: str = "test",
        **options: Any,
    ) -> None:
        super().__init__(data_dir, **options)
        if isinstance(class_names, str) or not isinstance(class_names, Sequence | None):
            raise InputError(f"dataset.class_names={class_names}: must be a list, such as [background,road]")
        self.given_names = None if class_names is None else [str(name) for name in class_names]
        self.classes_file = validation.path("dataset.classes_file", classes_file)
        self.ignore_value = validation.optional_whole("dataset.ignore_value", ignore_value, maximum=255)
        self.images_folder = validation.path("dataset.images_folder", images_folder)
        self.masks_folder = validation.path("dataset.masks_folder", masks_folder)
        folders = {"train": train_folder, "val": val_folder, "test": test_folder}
        self.folders = {split: validation.path(f"dataset.{split}_folder", name) for split, name in folders.items()}

    def options(self) -> dict[str, object]:
        """Return the class names, the ignored value and the names of the folders."""
        parts = [self.images_folder, self.masks_folder]
        own = {"classes": self._class_names(), "ignored": self.ignore_value, "folders": self.folders, "parts": parts}
        return super().options() | own

    def locate(self) -> Path:
        """Return the folder of the splits; refuse it if a split, its images or its masks are missing."""
        for split, folder in split_folders(self.data_dir, self.folders).items():
            options = (f"{split}_folder", "images_folder", "masks_folder")
            for option, path in zip(options, (folder, *self._parts(folder)), strict=True):
                if not path.is_dir():
                    raise InputError(
                        f"dataset image_mask_folder: {path} is missing; expected {self.data_dir}/{{train,val,test}}/"
                        f"{{images,masks}}/ (val is optional; if this folder has another name: dataset.{option}=NAME)"
                    )
        return self.data_dir

    def stamps(self, folder: Path) -> list[Path]:
        """Return all folders and files that are not hidden, because a user may replace a mask."""
        return visible_paths(split_folders(folder, self.folders).values())

    def read(self, folder: Path) -> RawData:
        """Read the splits, sorted by file name."""
        names = self._class_names()
        values = class_values(names, self.ignore_value)
        splits = {
            split: read_pairs(_pairs(*self._parts(path)), values, f"{split} images", names if split == "train" else ())
            for split, path in split_folders(folder, self.folders).items()
        }
        return RawData(splits, names)

    def _parts(self, split: Path) -> tuple[Path, Path]:
        """Return the folder of images and the folder of masks of a split."""
        return split / self.images_folder, split / self.masks_folder

    def _class_names(self) -> list[str]:
        """Return the names of the option or of the file.

        Raises:
            InputError: fewer than 2 names or more than 255, an empty name, or two names that metrics write alike.
        """
        place, names = "dataset.class_names", self.given_names
        if names is None:
            file = self.data_dir / self.classes_file
            advice = "write a class name on each line, or set dataset.class_names=[NAME,NAME]"
            place, names = str(file), read_text(file, advice).rstrip().split("\n")
        names = [name.strip() for name in names]
        if not 2 <= len(names) <= IGNORED:
            raise InputError(f"{place}: {len(names)} names; a mask has 2 to {IGNORED} classes")
        if "" in names:
            raise InputError(
                f"{place}: name {names.index('') + 1} is empty; a name on each line, in the order of the values"
            )
        if twice := [name for name, number in Counter(names).items() if number > 1]:
            raise InputError(f"{place}: {twice[0]!r} is there {names.count(twice[0])} times; names must differ")
        logged = {loggable(name): name for name in names}  # the last of each
        if hidden := [name for name in names if logged[loggable(name)] != name]:
            raise InputError(
                f"{place}: metrics write {hidden[0]!r} and {logged[loggable(hidden[0])]!r} as {loggable(hidden[0])!r}; "
                "names must differ in letters or digits"
            )
        return names


def class_values(names: Sequence[str], ignore_value: int | None) -> MaskValues:
    """Return the meaning of the values of masks: classes from 0 in the order of the names, or from 1 if 0 is ignored.

    Raises:
        InputError: the ignored value is the value of another class.
    """
    first = 1 if ignore_value == 0 else 0
    classes = {first + label: label for label in range(len(names))}
    if ignore_value in classes:
        raise InputError(
            f"dataset.ignore_value={ignore_value}: is the value of class {names[ignore_value]!r}; it must be at least "
            f"{len(names)}, or 0: then classes count from 1"
        )
    ignored = {} if ignore_value is None else {ignore_value: IGNORED}
    return MaskValues(classes | ignored, "set dataset.ignore_value={value}, or name the class of each value")


def _pairs(images: Path, masks: Path) -> list[Pair]:
    """Return the pairs of a split, by their names without ending.

    Raises:
        InputError: no image, two files of one name, or a file without partner.
    """
    keyed = []
    for folder in (images, masks):
        found = images_below(folder)
        if not found.images:
            others = f", only other files: {kinds_of(found.left_out)}" if found.left_out else ""
            raise InputError(f"{folder}: contains no image{others}")
        say_left_out(folder, found.left_out)
        keyed.append({str(path.relative_to(folder).with_suffix("")): path for path in found.images})
        if len(keyed[-1]) < len(found.images):
            first = next(path for path in found.images if path not in keyed[-1].values())
            raise InputError(f"{first}: another file has this name with another ending; delete one of them")
    return pair_up(keyed[0], keyed[1], f"each image needs a PNG of its name in {masks}, and each mask an image")
