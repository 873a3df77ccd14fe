"""CINIC-10: Darlow et al. 2018 (arXiv:1810.03505), CIFAR-10 joined with downsampled ImageNet images."""

from pathlib import Path

from stkd_lightning.data.archives.download import Archive
from stkd_lightning.data.arrays import RawData
from stkd_lightning.data.class_folders import class_folders, read_folder
from stkd_lightning.data.datasets.archive_module import OfficialDataModule
from stkd_lightning.utilities.errors import InputError


class CINIC10DataModule(OfficialDataModule):
    """CINIC-10: 32x32 images of 10 classes, 90,000 each for training, validation and testing."""

    name = "cinic10"
    archive = Archive(
        "https://datashare.is.ed.ac.uk/bitstream/handle/10283/3192/CINIC-10.tar.gz",
        "6ee4d0c996905fe93221de577967a372",
        "CINIC-10",
        flat=True,
    )

    def stamps(self, folder: Path) -> list[Path]:
        """Return the class folders; their times change when files are added or deleted, but not when overwritten."""
        return [p for s in ("train", "valid", "test") for p in sorted((folder / s).glob("*")) if p.is_dir()]

    def read(self, folder: Path) -> RawData:
        """Read the folders ``train``, ``valid`` and ``test``."""
        for split in ("train", "valid", "test"):
            if not (folder / split).is_dir():
                raise InputError(f"{folder / split}: missing; delete {folder} to download it again")
        names = class_folders(folder / "train")
        parts = {"train": "train", "val": "valid", "test": "test"}
        splits = {split: read_folder(folder / part, names, 32, f"CINIC-10 {part}") for split, part in parts.items()}
        return RawData(splits, names)
