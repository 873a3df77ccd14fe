"""CIFAR-10 and CIFAR-100: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"."""

from pathlib import Path

from stkd_lightning.data.archives.cifar_pickle import image_rows, label_list, name_list, read_pickle
from stkd_lightning.data.archives.download import Archive
from stkd_lightning.data.arrays import RawData, RawSplit
from stkd_lightning.data.datasets.archive_module import OfficialDataModule
from stkd_lightning.utilities.errors import InputError

SHAPE = (3, 32, 32)


def _split(paths: list[Path], label_key: str, num_classes: int) -> RawSplit:
    images, labels = [], []
    for path in paths:
        file_images, file_labels = image_rows(path, read_pickle(path), label_key)
        low, high = min(file_labels), max(file_labels)
        if not 0 <= low <= high < num_classes:
            raise InputError(f"{path}: labels {low} to {high}, but {num_classes} class names")
        images.append(file_images)
        labels += file_labels
    return RawSplit(labels, images, SHAPE)


def _superclasses(folder: Path, names: list[str]) -> tuple[list[int], list[str]] | tuple[None, None]:
    """Return the index of each class's superclass and the superclass names; ``None`` if the files lack them."""
    if "coarse_label_names" not in read_pickle(folder / "meta"):
        return None, None
    superclass_names = name_list(folder / "meta", "coarse_label_names")
    superclass_of: dict[int, int] = {}
    for path in (folder / "train", folder / "test"):
        content = read_pickle(path)
        if "coarse_labels" not in content:
            return None, None
        fine = content["fine_labels"]  # checked before
        coarse = label_list(path, content, "coarse_labels", len(fine))
        for label, superclass in sorted(set(zip(fine, coarse, strict=True))):
            if not 0 <= superclass < len(superclass_names):
                raise InputError(f"{path}: coarse label {superclass}, but {len(superclass_names)} superclass names")
            if superclass_of.setdefault(label, superclass) != superclass:
                several = f"{superclass_names[superclass_of[label]]!r} and {superclass_names[superclass]!r}"
                raise InputError(f"{path}: class {names[label]!r} has several superclasses: {several}")
    if len(superclass_of) < len(names):
        return None, None
    return [superclass_of[label] for label in range(len(names))], superclass_names


class CIFAR10DataModule(OfficialDataModule):
    """CIFAR-10: 32x32 images of 10 classes, 50,000 for training and 10,000 for testing."""

    name = "cifar10"
    archive = Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "cifar-10-batches-py",
    )

    def stamps(self, folder: Path) -> list[Path]:
        """Return the batches and the class names."""
        return sorted(p for p in folder.iterdir() if p.name.startswith(("data_batch", "test_batch", "batches.meta")))

    def read(self, folder: Path) -> RawData:
        """Read ``data_batch_1`` to ``data_batch_5`` and ``test_batch``."""
        names = name_list(folder / "batches.meta", "label_names")
        if len(names) != 10:
            raise InputError(f"{folder / 'batches.meta'}: {len(names)} class names instead of 10; delete {folder}")
        train = [folder / f"data_batch_{i}" for i in range(1, 6)]
        splits = {"train": _split(train, "labels", 10), "test": _split([folder / "test_batch"], "labels", 10)}
        return RawData(splits, names)


class CIFAR100DataModule(OfficialDataModule):
    """CIFAR-100: 32x32 images of 100 classes, 50,000 for training and 10,000 for testing."""

    name = "cifar100"
    archive = Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        "cifar-100-python",
    )

    def stamps(self, folder: Path) -> list[Path]:
        """Return both splits and the class names."""
        return [p for p in (folder / "train", folder / "test", folder / "meta") if p.exists()]

    def read(self, folder: Path) -> RawData:
        """Read ``train`` and ``test`` with fine labels; superclasses come from the coarse labels."""
        names = name_list(folder / "meta", "fine_label_names")
        splits = {s: _split([folder / s], "fine_labels", len(names)) for s in ("train", "test")}
        return RawData(splits, names, *_superclasses(folder, names))
