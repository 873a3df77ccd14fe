"""A user's own images: folders of class folders, or files with a table of their tags."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from stkd_lightning.data.arrays import RawData, Split
from stkd_lightning.data.class_folders import class_folders, image_split, read_folder
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.data.split_folders import split_folders, visible_paths
from stkd_lightning.data.tag_table import TableFiles
from stkd_lightning.tasks.base import Task
from stkd_lightning.tasks.tagging import Tagging
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.choices import ON_ERROR, OnError
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, unknown

MAX_SIZE = 4096
READING = 2  # raised when a change of the code changes the pixels that are read


class ImageFolderDataModule(ArrayDataModule):
    """Images of any size in ``data_dir/{train,val,test}/{class}/``.

    Preparation resizes images to cover ``image_size`` and crops them at the center. Without a validation folder,
    validation images are held out of the training images.

    With a table of labels, images have any number of tags, and need no folders of classes.

    Args:
        data_dir: folder of the splits, or of the table.
        image_size: side in pixels.
        labels: name of a CSV file with the columns ``file,tags,split``, as in ``AudioFolderDataModule``; ``None``: a
            folder for each class.
        classes: with a table, name of a text file with a tag on each line; ``None``: the tags of the training files.
        train_folder: name of the training folder.
        val_folder: name of the validation folder; it may be missing.
        test_folder: name of the test folder.
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
        image_size: int = 64,
        labels: str | None = None,
        classes: str | None = None,
        train_folder: str = "train",
        val_folder: str = "val",
        test_folder: str = "test",
        on_error: OnError = "refuse",
        **options: Any,
    ) -> None:
        super().__init__(data_dir, **options)
        self.size = validation.whole("dataset.image_size", image_size, minimum=8)
        if self.size > MAX_SIZE:
            raise InputError(f"dataset.image_size={self.size}: must be at most {MAX_SIZE}; 224 is usual")
        self.folders = {"train": train_folder, "val": val_folder, "test": test_folder}
        self.table = None if labels is None else TableFiles(labels, classes)
        if self.table and self.sampler != "shuffled":
            raise InputError(f"dataset.sampler={self.sampler}: images with tags have no single class; set shuffled")
        if on_error not in ON_ERROR:
            raise unknown("dataset.on_error", str(on_error), ON_ERROR)
        self.on_error = on_error

    def options(self) -> dict[str, object]:
        """Return the image size, the names of the folders, and how images are read."""
        skip = {"on_error": "skip"} if self.on_error == "skip" else {}
        table = {"table": asdict(self.table)} if self.table else {}
        return {"size": self.size, "folders": self.folders, "reading": READING, **skip, **table}

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
        return split_folders(self.data_dir, self.folders)

    def locate(self) -> Path:
        """Return the folder of the splits or of the table; refuse it if a split or the table is missing."""
        if self.table:
            self.table.check(self.data_dir, self.name)
            return self.data_dir
        for split, folder in self._split_folders().items():
            if not folder.is_dir():
                raise InputError(
                    f"dataset image_folder: {folder} is missing; "
                    f"expected {self.data_dir}/{{train,val,test}}/CLASS/IMAGE "
                    f"(val is optional; if this folder has another name: dataset.{split}_folder=NAME)"
                )
        return self.data_dir

    def stamps(self, folder: Path) -> list[Path]:
        """Return all folders and files that are not hidden, because a user may replace an image."""
        return self.table.paths(folder) if self.table else visible_paths(self._split_folders().values())

    def read(self, folder: Path) -> RawData:
        """Read the splits; classes in alphabetical order."""
        if self.table:
            tagged = self.table.read(folder)
            splits = {
                split: image_split(paths, tagged.labels[split].astype(np.int64), self.size, f"{split} images")
                for split, paths in tagged.files.items()
            }
            return RawData(splits, tagged.class_names)
        folders = self._split_folders()
        names = class_folders(folders["train"])
        if len(names) < 2:
            raise InputError(f"{folders['train']}: needs a folder for each of at least 2 classes, has {len(names)}")
        used = {*names, *(part for name in self.folders.values() for part in Path(name).parts[:1])}
        others = sorted(set(class_folders(folder)) - used)
        if others and "val" not in folders:
            print_rank_zero(
                f"{folder}: folders not read: {', '.join(others[:5])}; validation images are held out of train "
                "(another folder: dataset.val_folder=NAME)"
            )
        splits = {s: read_folder(p, names, self.size, f"{s} images") for s, p in folders.items()}
        return RawData(splits, names)
