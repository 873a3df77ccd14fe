"""ImageNet-1k: the classification data of ILSVRC 2012 (Russakovsky et al. 2015, arXiv:1409.0575)."""

from pathlib import Path
from typing import Any

from stkd_lightning.data.arrays import RawData
from stkd_lightning.data.class_folders import Listed, class_folders
from stkd_lightning.data.datasets.image_folder import ImageFolderDataModule
from stkd_lightning.data.datasets.imagenet_devkit import list_numbered, synset_list
from stkd_lightning.data.split_folders import visible_paths
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.image_size import Size

CLASSES = 1000


class ImageNetDataModule(ImageFolderDataModule):
    """ImageNet-1k in ``train/WNID/`` and ``val/``; the 50,000 images of ``val`` are the test set.

    ``val`` has a folder for each class, or all images beside each other; then the official development kit
    ``ILSVRC2012_devkit_t12`` names their classes. Classes are in the order of their WordNet IDs, as in the weights of
    torchvision and timm.

    Args:
        data_dir: folder of ``train`` and ``val``, or the folder in which ``imagenet`` has them.
        image_size: side in pixels, or height and width.
        options: those of ``ImageFolderDataModule``, without a table and names of folders.

    Raises:
        InputError: a missing folder, or a file of the development kit that is missing or damaged.
    """

    name = "imagenet"

    def __init__(self, data_dir: str | Path = "data", *, image_size: Size = 224, **options: Any) -> None:
        root = Path(data_dir).expanduser()
        inner = root / "imagenet"
        super().__init__(inner if inner.is_dir() else root, image_size=image_size, test_folder="val", **options)

    def locate(self) -> Path:
        """Return the folder of ``train`` and ``val``; ImageNet may not be downloaded without an account."""
        for split, archive in (("train", "ILSVRC2012_img_train.tar"), ("val", "ILSVRC2012_img_val.tar")):
            if not (folder := self.data_dir / split).is_dir():
                raise InputError(
                    f"dataset imagenet: {folder} is missing; get {archive} from image-net.org and unpack it there "
                    "(train: a folder for each class)"
                )
        return self.data_dir

    def stamps(self, folder: Path) -> list[Path]:
        """Return the folders, whose times change when images are added or deleted, and the development kit."""
        parts = [p for p in (folder / "train", folder / "val") if p.is_dir()]
        classes = [part / name for part in parts for name in class_folders(part)]
        kit = visible_paths(p for p in [self._devkit] if p.is_dir())
        unlabelled = [] if self.unlabeled_dir is None else [self.unlabeled_dir]
        return [*parts, *classes, *kit, *visible_paths(unlabelled)]

    @property
    def _devkit(self) -> Path:
        return self.data_dir / "ILSVRC2012_devkit_t12"

    def _most_images(self) -> int:
        return sum(len(listed.paths) for listed in self._listed[0].values())

    def _list_split(self, split: str, folder: Path, class_names: list[str]) -> Listed:
        if split == "train" or class_folders(folder):
            return super()._list_split(split, folder, class_names)
        return list_numbered(folder, synset_list(self._devkit), class_names)

    def _say_folders(self, folders: dict[str, Path], names: list[str]) -> None:
        """Print nothing: the layout is known."""

    def read(self, folder: Path) -> RawData:
        """Read the splits; all 1,000 classes have the names of torchvision's weights, others their WordNet IDs."""
        from torchvision.models import ResNet18_Weights

        raw = super().read(folder)
        words: list[str] = ResNet18_Weights.DEFAULT.meta["categories"]
        return raw._replace(class_names=list(words) if len(raw.class_names) == CLASSES else raw.class_names)
