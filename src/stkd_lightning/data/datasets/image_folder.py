"""A user's own images: folders of class folders, or files with a table of their tags."""

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.arrays import RawData, RawSplit, Split
from stkd_lightning.data.class_folders import (
    Listed,
    class_folders,
    hold_out_files,
    list_folder,
    with_unlabelled,
)
from stkd_lightning.data.image_reading import image_split, pictures_of_unequal_sides
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.data.picture_split import DECODERS, FileSplit, RawFiles, RawPictures, View
from stkd_lightning.data.split_folders import split_folders, visible_paths
from stkd_lightning.data.tag_table import TableFiles
from stkd_lightning.tasks.base import Task
from stkd_lightning.tasks.tagging import Tagging
from stkd_lightning.utilities import list_validation, validation
from stkd_lightning.utilities.choices import ON_ERROR, STORAGES, OnError, Storage
from stkd_lightning.utilities.console import print_rank_zero, silent
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.image_size import Size, sides

MAX_SIZE = 4096
PREPARED = 16 * 2**30  # bytes above which images are streamed
SPLIT_NAMES = {"train", "training", "test", "testing", "tests", "val", "valid", "validation"}
UNEQUAL = 4 / 3  # pixels of photographs, by those of a square with their shorter side
READING = 2  # raised when a change of the code changes the pixels that are read


class ImageFolderDataModule(ArrayDataModule):
    """Images of any size in ``data_dir/{train,val,test}/{class}/``, or in ``data_dir/{class}/``.

    Preparation resizes images to cover ``image_size`` and crops them at the centre. With random resized crops or
    ``evaluation_resize`` it only makes images smaller, to a shorter side that all crops can be taken from. Streamed
    images are not prepared: files are decoded when they are needed. Without a validation folder, validation images are
    held out of the training images; without a test folder, test images as well.

    With a table of labels, images have any number of tags, and need no folders of classes.

    Args:
        data_dir: folder of the splits, of the class folders, or of the table.
        image_size: side in pixels, or height and width.
        evaluation_resize: side, or height and width, which an image covers before its centre is cropped to
            ``image_size`` in evaluations; ``None``: ``image_size``, or 8 / 7 of it with random resized crops, which is
            256 for 224.
        storage: ``"prepared"``: written once as pixels; ``"streamed"``: decoded from the files in each epoch;
            ``"auto"``: streamed if the pixels would take more than 16 GiB.
        test_fraction: share in (0, 1) of each class that is tested on where there is no test folder.
        labels: name of a CSV file with the columns ``file,tags,split``, as in ``AudioFolderDataModule``; ``None``: a
            folder for each class.
        classes: with a table, name of a text file with a tag on each line; ``None``: the tags of the training files.
        train_folder: name of the training folder.
        val_folder: name of the validation folder; it may be missing.
        test_folder: name of the test folder.
        unlabeled_dir: folder of unlabelled training images, at any depth; ``None``: there are none. See
            ``unlabeled_ratio``.
        on_error: ``"refuse"``: an error names all images that cannot be read; ``"skip"``: they are left out.
        options: those of ``ArrayDataModule``.

    Raises:
        InputError: a missing folder, different classes in the splits, or an unreadable image.
    """

    name = "image_folder"

    def __init__(
        self,
        data_dir: str | Path = "data",
        *,
        image_size: Size = 64,
        evaluation_resize: Size | None = None,
        storage: Storage = "auto",
        test_fraction: float = 0.1,
        labels: str | None = None,
        classes: str | None = None,
        train_folder: str = "train",
        val_folder: str = "val",
        test_folder: str = "test",
        unlabeled_dir: str | Path | None = None,
        on_error: OnError = "refuse",
        **options: Any,
    ) -> None:
        super().__init__(data_dir, **options)
        self.size = list_validation.size("dataset.image_size", image_size, maximum=MAX_SIZE)
        self.resize = list_validation.optional_size("dataset.evaluation_resize", evaluation_resize)
        if self.resize and any(side < part for side, part in zip(*map(sides, (self.resize, self.size)), strict=True)):
            raise InputError(
                f"dataset.evaluation_resize={evaluation_resize}: smaller than dataset.image_size={image_size}, which "
                f"is cropped from it; the nearest is {image_size}"
            )
        if storage not in STORAGES:
            raise unknown("dataset.storage", str(storage), STORAGES)
        self._storage: Storage = storage
        self.test_fraction = validation.share("dataset.test_fraction", test_fraction)
        if test_fraction == 1:
            raise InputError("dataset.test_fraction=1: leaves nothing to train on; 0.1 is usual")
        self.folders = {"train": train_folder, "val": val_folder, "test": test_folder}
        self.table = None if labels is None else TableFiles(labels, classes)
        if self.table and self.sampler != "shuffled":
            raise InputError(f"dataset.sampler={self.sampler}: images with tags have no single class; set shuffled")
        self.unlabeled_dir = None if unlabeled_dir is None else Path(unlabeled_dir).expanduser()
        if self.table and self.unlabeled_dir is not None:
            raise InputError(f"dataset.unlabeled_dir={unlabeled_dir}: images with tags are not mixed with others")
        if on_error not in ON_ERROR:
            raise unknown("dataset.on_error", str(on_error), ON_ERROR)
        self.on_error = on_error

    def options(self) -> dict[str, object]:
        """Return the image size, the names of the folders, and how images are read and divided."""
        own: dict[str, object] = {"on_error": "skip"} if self.on_error == "skip" else {}
        if self.table:
            own["table"] = asdict(self.table)
        if self.view is not None:
            own |= {"view": self.view, "streamed": DECODERS if self.storage == "streamed" else None}
        if not self.table and "test" not in self._split_folders():
            own["test_fraction"] = [self.test_fraction, self.split_seed]
        if self.unlabeled_dir is not None:
            own["unlabeled_dir"] = str(self.unlabeled_dir.resolve())
        return {"size": self.size, "folders": self.folders, "reading": READING, **own}

    @cached_property
    def storage(self) -> Literal["prepared", "streamed"]:
        """``"prepared"`` or ``"streamed"``; with ``"auto"`` the number of images decides."""
        if self._storage != "auto":
            return self._storage
        self.locate()
        height, width = sides(self.size) if self._cropped is None else self._cropped.side
        bytes_each = 3 * height * width * (1 if self._cropped is None else UNEQUAL)
        if bytes_each * self._most_images() <= PREPARED:
            return "prepared"
        images = sum(len(listed.paths) for listed in self._listed[0].values())
        if (needed := bytes_each * images) <= PREPARED:
            return "prepared"
        print_rank_zero(
            f"dataset: {images:,} images are streamed, decoded in each epoch; prepared they would take "
            f"{needed / 2**30:.0f} GiB of disk and be read faster (dataset.storage=prepared)"
        )
        return "streamed"

    def _most_images(self) -> int:
        """Return a number of files that is not below that of the images; faster than listing them."""
        return len(self.stamps(self.data_dir))

    @property
    def view(self) -> View | None:
        """How evaluations see images that are streamed or prepared with unequal sides; ``None``: all have one size."""
        if self._cropped is None and self.storage == "streamed":
            return View(sides(self.size), sides(self.size))
        return self._cropped

    @property
    def evaluation_resize(self) -> tuple[int, int] | None:
        """Height and width that an image covers before its centre is cropped; ``None``: the image size."""
        return None if self.view is None or self.view.side == self.view.size else self.view.side

    @property
    def _cropped(self) -> View | None:
        height, width = sides(self.size)
        if self.resize is not None:
            return View((height, width), sides(self.resize))
        if self.augment is None or self.augment.crop_scale is None:
            return None
        return View((height, width), (round(8 / 7 * height), round(8 / 7 * width)))

    @property
    def task(self) -> Task:
        """Tagging with a table of labels, else classification."""
        if self.table is None:
            return super().task
        return Tagging.of(self.class_names, cast(Split, self.arrays.splits["train"]).labels)

    def _sample_classes(self) -> NDArray[np.int64]:
        """Return the classes of the training images; those with tags are held out without regard to them."""
        classes = super()._sample_classes()
        return classes if self.table is None else np.zeros(len(classes), dtype=np.int64)

    def _split_folders(self) -> dict[str, Path]:
        """Return the folders of the splits; without a folder for training, class folders lie beside each other."""
        folders = split_folders(self.data_dir, self.folders)
        if self.folders["train"] == "train" and not folders["train"].is_dir() and len(self._classes(self.data_dir)) > 1:
            folders["train"] = self.data_dir
        if self.folders["test"] == "test" and not folders["test"].is_dir() and folders["train"].is_dir():
            del folders["test"]
        return folders

    def _classes(self, folder: Path) -> list[str]:
        """Return the names of the class folders in a folder, which may be that of the splits."""
        beside = self._beside_classes if folder == self.data_dir else ()
        return [name for name in class_folders(folder) if name not in beside] if folder.is_dir() else []

    @property
    def _beside_classes(self) -> list[str]:
        """Names in the data folder that are no classes."""
        unlabelled = self.unlabeled_dir
        own = unlabelled is not None and unlabelled.resolve().parent == self.data_dir.resolve()
        return [*self.folders.values(), *([unlabelled.name] if own and unlabelled is not None else [])]

    def locate(self) -> Path:
        """Return the folder of the splits or of the table; refuse it if a split or the table is missing."""
        if self.table:
            self.table.check(self.data_dir, self.name)
            return self.data_dir
        for split, folder in self._split_folders().items():
            if not folder.is_dir():
                raise InputError(
                    f"dataset image_folder: {folder} is missing; "
                    f"expected {self.data_dir}/{{train,val,test}}/CLASS/IMAGE or {self.data_dir}/CLASS/IMAGE "
                    f"(val and test are optional; if this folder has another name: dataset.{split}_folder=NAME)"
                )
        if self.unlabeled_dir is not None and not self.unlabeled_dir.is_dir():
            raise InputError(f"dataset.unlabeled_dir={self.unlabeled_dir}: no such folder")
        return self.data_dir

    def stamps(self, folder: Path) -> list[Path]:
        """Return all folders and files that are not hidden, because a user may replace an image."""
        if self.table:
            return self.table.paths(folder)
        unlabelled = [] if self.unlabeled_dir is None else [self.unlabeled_dir]
        return visible_paths([*self._split_folders().values(), *unlabelled])

    @cached_property
    def _listed(self) -> tuple[dict[str, Listed], list[str]]:
        """The files of the splits with their labels, and the class names; classes in alphabetical order."""
        if self.table:
            tagged = self.table.read(self.data_dir)
            tags = {
                split: Listed(paths, tagged.labels[split].astype(np.int64)) for split, paths in tagged.files.items()
            }
            return tags, tagged.class_names
        folders = self._split_folders()
        names = self._classes(folders["train"])
        if folders["train"] == self.data_dir and (odd := [name for name in names if name.casefold() in SPLIT_NAMES]):
            raise InputError(
                f"dataset image_folder: {self.data_dir / odd[0]}: a split or a class? If a split, name all splits "
                "by dataset.train_folder, dataset.val_folder and dataset.test_folder; if a class, rename it"
            )
        if len(names) < 2:
            raise InputError(f"{folders['train']}: needs a folder for each of at least 2 classes, has {len(names)}")
        self._say_folders(folders, names)
        listed = {split: self._list_split(split, folder, names) for split, folder in folders.items()}
        if "test" not in listed:
            train, test = hold_out_files(listed["train"], self.data_dir, self.test_fraction, self.split_seed)
            listed |= {"train": train, "test": test}
        if self.unlabeled_dir is not None:
            listed["train"] = with_unlabelled(listed, self.unlabeled_dir)
        return listed, names

    def _list_split(self, split: str, folder: Path, class_names: list[str]) -> Listed:
        """List the images of a split's folder."""
        beside = self._beside_classes if folder == self.data_dir else ()
        return list_folder(folder, class_names, all_classes=split == "train", beside=beside)

    def _say_folders(self, folders: dict[str, Path], names: list[str]) -> None:
        """Print which folders are read where the layout does not say it."""
        used = {*names, *(part for name in self.folders.values() for part in Path(name).parts[:1])}
        others = sorted(set(class_folders(self.data_dir)) - used)
        if others and "val" not in folders:
            print_rank_zero(
                f"{self.data_dir}: folders not read: {', '.join(others[:5])}; validation images are held out of train "
                "(another folder: dataset.val_folder=NAME)"
            )
        if "test" not in folders:
            layout = (
                f"its {len(names)} folders are the classes" if folders["train"] == self.data_dir else "no test folder"
            )
            print_rank_zero(
                f"{self.data_dir}: {layout}; {self.test_fraction:.0%} of each class are test images "
                "(dataset.test_fraction)"
            )

    @cached_property
    def _read_files(self) -> dict[str, list[Path]]:
        """The files of prepared images by split, in their order: they are listed again, as the arrays hold no names."""
        with silent():
            listed, _ = self._listed
        files = {}
        for split, each in listed.items():
            kept = np.delete(np.arange(len(each.paths)), self.arrays.unreadable.get(split, []))
            # Earlier versions did not write down which files they left out.
            if np.array_equal(np.asarray(each.labels)[kept], self.arrays.splits[split].labels.numpy()):
                files[split] = [each.paths[i] for i in kept]
        return files

    def file_name(self, split: str, index: int) -> str:
        """Return the name of an image's file; see ``ArrayDataModule.file_name``."""
        if isinstance(self.arrays.splits[split], FileSplit) or split not in self._read_files:
            return super().file_name(split, index)
        path = self._read_files[split][index]
        return str(path.relative_to(self.data_dir) if path.is_relative_to(self.data_dir) else path.absolute())

    def read(self, folder: Path) -> RawData:
        """Read the splits."""
        listed, names = self._listed
        return RawData({split: self._raw(files, f"{split} images") for split, files in listed.items()}, names)

    def _raw(self, files: Listed, description: str) -> RawSplit | RawPictures | RawFiles:
        if self.view is None:
            return image_split(*files, self.size, description)
        if self.storage == "prepared":
            return pictures_of_unequal_sides(*files, self.view, description)
        return RawFiles(files.labels, files.paths, self.data_dir, self.view, {})
