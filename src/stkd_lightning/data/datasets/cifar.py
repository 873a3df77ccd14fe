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
        rows, own = image_rows(path, read_pickle(path), label_key)
        if own and not 0 <= min(own) <= max(own) < num_classes:
            raise InputError(f"{path}: labels {min(own)} to {max(own)}, but {num_classes} class names")
        images.append(rows)
        labels += own
    return RawSplit(labels, images, SHAPE)


def _superclasses(folder: Path, names: list[str]) -> tuple[list[int], list[str]] | tuple[None, None]:
    """Return the index of each class's superclass and the superclasses' names; nothing where the files do not tell."""
    if "coarse_label_names" not in read_pickle(folder / "meta"):
        return None, None
    superclass_names = name_list(folder / "meta", "coarse_label_names")
    found: dict[int, int] = {}
    for path in (folder / "train", folder / "test"):
        content = read_pickle(path)
        if "coarse_labels" not in content:
            return None, None
        fine = content["fine_labels"]  # found to be labels before
        coarse = label_list(path, content, "coarse_labels", len(fine))
        for label, own in sorted(set(zip(fine, coarse, strict=True))):
            if not 0 <= own < len(superclass_names):
                raise InputError(f"{path}: coarse label {own}, but {len(superclass_names)} superclass names")
            if found.setdefault(label, own) != own:
                several = f"{superclass_names[found[label]]!r} and {superclass_names[own]!r}"
                raise InputError(f"{path}: class {names[label]!r} has several superclasses: {several}")
    if len(found) < len(names):
        return None, None
    return [found[label] for label in range(len(names))], superclass_names


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
        """Read ``train`` and ``test`` with their fine labels, and from their coarse labels the superclasses."""
        names = name_list(folder / "meta", "fine_label_names")
        splits = {s: _split([folder / s], "fine_labels", len(names)) for s in ("train", "test")}
        return RawData(splits, names, *_superclasses(folder, names))
