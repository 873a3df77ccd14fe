"""Tiny-ImageNet: Stanford CS231n, 200 classes of ImageNet at 64x64."""

from pathlib import Path

from stkd_lightning.data.archives.download import Archive
from stkd_lightning.data.arrays import RawData
from stkd_lightning.data.class_folders import class_folders
from stkd_lightning.data.datasets.archive_module import OfficialDataModule
from stkd_lightning.data.image_files import images_below
from stkd_lightning.data.image_reading import image_split
from stkd_lightning.data.text_file import read_lines
from stkd_lightning.utilities.errors import InputError

SIZE = 64
ADVICE = "delete the data set to download it again"


class TinyImageNetDataModule(OfficialDataModule):
    """Tiny-ImageNet: 64x64 images of 200 classes; the 10,000 labelled images of ``val`` are the test set."""

    name = "tiny_imagenet"
    archive = Archive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "90528d7ca1a48142e341f4ef8d21d0de",
        "tiny-imagenet-200",
    )

    def stamps(self, folder: Path) -> list[Path]:
        """Return the annotations and the image folders, whose times change when files are added or deleted."""
        candidates = [folder / "words.txt", folder / "val" / "val_annotations.txt", folder / "val" / "images"]
        return [p for p in candidates if p.exists()] + sorted((folder / "train").glob("*/images"))

    def read(self, folder: Path) -> RawData:
        """Read ``train`` from its folders and ``val`` from its annotations; classes in the order of their synsets."""
        annotations = folder / "val" / "val_annotations.txt"
        if not annotations.is_file() or not (folder / "train").is_dir():
            raise InputError(f"{folder}: not Tiny-ImageNet's layout; delete it to download it again")
        synsets = class_folders(folder / "train")
        train_paths, train_labels = [], []
        for label, synset in enumerate(synsets):
            images = images_below(folder / "train" / synset / "images").images
            if not images:
                raise InputError(
                    f"{folder / 'train' / synset / 'images'}: contains no image; delete {folder} to download it again"
                )
            train_paths += images
            train_labels += [label] * len(images)
        rows = _annotated(annotations, set(synsets))
        test_paths = [folder / "val" / "images" / name for name, _ in rows]
        test_labels = [synsets.index(synset) for _, synset in rows]
        splits = {
            "train": image_split(train_paths, train_labels, SIZE, "Tiny-ImageNet train"),
            "test": image_split(test_paths, test_labels, SIZE, "Tiny-ImageNet val"),
        }
        return RawData(splits, _names(folder, synsets))


def _annotated(annotations: Path, synsets: set[str]) -> list[tuple[str, str]]:
    """Return name and synset of each test image.

    Raises:
        InputError: a line without them, a class that is not in train, or a missing image.
    """
    rows = []
    for line in read_lines(annotations, ADVICE):
        name, _, rest = line.partition("\t")
        synset = rest.split("\t")[0].strip()
        if synset not in synsets:
            raise InputError(f"{annotations}: names a class that is not in train: {(synset or line)[:100]}")
        if Path(name).name != name or "\0" in name or not (annotations.parent / "images" / name).is_file():
            raise InputError(f"{annotations}: names an image that does not exist: {name[:100]!r}")
        rows.append((name, synset))
    return rows


def _names(folder: Path, synsets: list[str]) -> list[str]:
    """Return the first word of each synset, or the synset if it has no word."""
    words = folder / "words.txt"
    lines = read_lines(words, ADVICE) if words.is_file() else []
    first = {synset: rest.split(",")[0].strip() for synset, _, rest in (line.partition("\t") for line in lines)}
    return [first.get(synset, synset) for synset in synsets]
