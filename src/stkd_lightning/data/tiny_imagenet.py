"""Tiny-ImageNet: Stanford CS231n, 200 classes of ImageNet at 64x64."""

from pathlib import Path

from stkd_lightning.data.arrays import RawData, RawSplit
from stkd_lightning.data.download import Archive
from stkd_lightning.data.images import class_folders, decode_all, image_files
from stkd_lightning.data.official import OfficialDataModule
from stkd_lightning.errors import InputError

SIZE = 64


class TinyImageNetDataModule(OfficialDataModule):
    """Tiny-ImageNet: 64x64 images of 200 classes; the 10,000 labelled images of ``val`` are the test set."""

    name = "tiny_imagenet"
    archive = Archive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "90528d7ca1a48142e341f4ef8d21d0de",
        "tiny-imagenet-200",
    )

    def stamps(self, folder: Path) -> list[Path]:
        """Return the annotations, and the image folders, whose times change when files come or go."""
        candidates = [folder / "words.txt", folder / "val" / "val_annotations.txt", folder / "val" / "images"]
        return [p for p in candidates if p.exists()] + sorted((folder / "train").glob("*/images"))

    def read(self, folder: Path) -> RawData:
        """Read ``train`` by its folders and ``val`` by its annotations; classes in the order of their synsets."""
        annotations = folder / "val" / "val_annotations.txt"
        if not annotations.is_file() or not (folder / "train").is_dir():
            raise InputError(f"{folder}: not Tiny-ImageNet's layout; delete it to have it downloaded again")
        synsets = class_folders(folder / "train")
        train_paths, train_labels = [], []
        for label, synset in enumerate(synsets):
            own = image_files(folder / "train" / synset / "images")
            train_paths += own
            train_labels += [label] * len(own)
        rows = [line.split("\t")[:2] for line in annotations.read_text().splitlines() if line.strip()]
        odd = sorted({row[-1] for row in rows} - set(synsets))
        if odd or not all(len(row) == 2 for row in rows):
            raise InputError(f"{annotations}: names a class that train lacks: {', '.join(odd[:5])}")
        test_paths = [folder / "val" / "images" / name for name, _ in rows]
        test_labels = [synsets.index(synset) for _, synset in rows]
        shape = (3, SIZE, SIZE)
        splits = {
            "train": RawSplit(train_labels, decode_all(train_paths, SIZE, "Tiny-ImageNet train"), shape),
            "test": RawSplit(test_labels, decode_all(test_paths, SIZE, "Tiny-ImageNet val"), shape),
        }
        return RawData(splits, _names(folder, synsets))


def _names(folder: Path, synsets: list[str]) -> list[str]:
    """Return the first word for each synset, or the synset where there is none."""
    words = folder / "words.txt"
    lines = words.read_text(encoding="utf-8").splitlines() if words.is_file() else []
    first = {synset: rest.split(",")[0] for synset, _, rest in (line.partition("\t") for line in lines)}
    return [first.get(synset, synset) for synset in synsets]
