"""LightningDataModules for the literature's data sets and for a user's own images."""

from stkd_lightning.data.arrays import RawData, RawMasks, RawSplit
from stkd_lightning.data.clip_arrays import RawClips
from stkd_lightning.data.clip_module import ClipDataModule
from stkd_lightning.data.datasets.audio_folder import AudioFolderDataModule
from stkd_lightning.data.datasets.camvid import CamVidDataModule
from stkd_lightning.data.datasets.cifar import CIFAR10DataModule, CIFAR100DataModule
from stkd_lightning.data.datasets.cinic10 import CINIC10DataModule
from stkd_lightning.data.datasets.cityscapes import CityscapesDataModule
from stkd_lightning.data.datasets.digit_canvas import DigitCanvasDataModule
from stkd_lightning.data.datasets.digits import DigitsDataModule
from stkd_lightning.data.datasets.digits_tagging import DigitsTaggingDataModule
from stkd_lightning.data.datasets.image_folder import ImageFolderDataModule
from stkd_lightning.data.datasets.image_mask_folder import ImageMaskFolderDataModule
from stkd_lightning.data.datasets.imagenet import ImageNetDataModule
from stkd_lightning.data.datasets.sonyc import SONYCDataModule
from stkd_lightning.data.datasets.synthetic_sounds import SyntheticSoundsDataModule
from stkd_lightning.data.datasets.tiny_imagenet import TinyImageNetDataModule
from stkd_lightning.data.mask_module import MaskDataModule
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.data.transforms import Augment

__all__ = [
    "ArrayDataModule",
    "AudioFolderDataModule",
    "Augment",
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "CINIC10DataModule",
    "CamVidDataModule",
    "CityscapesDataModule",
    "ClipDataModule",
    "DigitCanvasDataModule",
    "DigitsDataModule",
    "DigitsTaggingDataModule",
    "ImageFolderDataModule",
    "ImageMaskFolderDataModule",
    "ImageNetDataModule",
    "MaskDataModule",
    "RawClips",
    "RawData",
    "RawMasks",
    "RawSplit",
    "SONYCDataModule",
    "SyntheticSoundsDataModule",
    "TinyImageNetDataModule",
]
