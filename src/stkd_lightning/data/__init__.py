"""LightningDataModules of the literature's data sets and of a user's own images."""

from stkd_lightning.data.cifar import CIFAR10DataModule, CIFAR100DataModule
from stkd_lightning.data.cinic10 import CINIC10DataModule
from stkd_lightning.data.digits import DigitsDataModule
from stkd_lightning.data.image_folder import ImageFolderDataModule
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.data.tiny_imagenet import TinyImageNetDataModule

__all__ = [
    "ArrayDataModule",
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "CINIC10DataModule",
    "DigitsDataModule",
    "ImageFolderDataModule",
    "TinyImageNetDataModule",
]
