"""The frames of CamVid's official lists, chosen by the video sequences that they are from."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stkd_lightning.data.mask_pairs import Pair
from stkd_lightning.data.text_file import read_lines
from stkd_lightning.utilities.errors import InputError, unknown

SPLITS = ("train", "val", "test")


class Frame(NamedTuple):
    """A frame of an official list; its name begins with its sequence."""

    split: str
    name: str

    @property
    def sequence(self) -> str:
        """The sequence, such as ``0001TP``."""
        return self.name.partition("_")[0]

    def pair(self, folder: Path) -> Pair:
        """Return the files of the frame below the folder of the data set."""
        return Pair(folder / self.split / self.name, folder / f"{self.split}annot" / self.name)


def listed_frames(folder: Path, advice: str) -> list[Frame]:
    """Return all frames of the official lists, whose lines name an image and its mask with paths of the tutorial."""
    return [
        Frame(split, Path(line.split()[0]).name)
        for split in SPLITS
        for line in read_lines(folder / f"{split}.txt", advice)
    ]


class Selection(NamedTuple):
    """The chosen frames by use; those without labels are trained on, too."""

    train: list[Frame]
    unlabelled: list[Frame]
    val: list[Frame]
    test: list[Frame]


@dataclass(frozen=True)
class SequenceChoice:
    """The sequences of the options ``sequences``, ``test_sequences`` and ``proximity`` of ``CamVidDataModule``."""

    sequences: tuple[Any, ...] | None
    test_sequences: tuple[Any, ...] | None
    proximity: tuple[Any, ...]

    @classmethod
    def checked(
        cls, sequences: Sequence[str] | None, test_sequences: Sequence[str] | None, proximity: Sequence[str] | None
    ) -> "SequenceChoice":
        """Return the choice of options, which must be lists or ``None``.

        Raises:
            InputError: another value.
        """
        return cls(
            _tuple("sequences", sequences),
            _tuple("test_sequences", test_sequences),
            _tuple("proximity", proximity) or (),
        )

    def select(self, frames: Sequence[Frame]) -> Selection:
        """Return the chosen frames.

        Raises:
            InputError: an unknown sequence, a proximity sequence that is also trained with labels or tested, or no
                frame to train on or to test.
        """
        known = sorted({frame.sequence for frame in frames})
        chosen = known if self.sequences is None else _resolve("sequences", self.sequences, known)
        tested = chosen if self.test_sequences is None else _resolve("test_sequences", self.test_sequences, known)
        near = _resolve("proximity", self.proximity, known)
        if both := [name for name in near if name in {*chosen, *tested}]:
            raise InputError(
                f"dataset.proximity: {', '.join(both)}: also trained with labels or tested; set dataset.sequences and "
                f"dataset.test_sequences to some of {', '.join(name for name in known if name not in near)}"
            )
        return Selection(
            train=_of("train", "sequences", chosen, frames),
            unlabelled=[frame for frame in frames if frame.sequence in near],
            val=[frame for frame in frames if frame.split == "val" and frame.sequence in chosen],
            test=_of("test", "test_sequences", tested, frames),
        )


def _tuple(option: str, value: Sequence[str] | None) -> tuple[Any, ...] | None:
    if isinstance(value, str) or not isinstance(value, Sequence | None):
        raise InputError(f"dataset.{option}={value}: must be a list, such as [0001TP]")
    return None if value is None else tuple(value)


def _of(split: str, option: str, names: Sequence[str], frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames of a split and of some sequences.

    Raises:
        InputError: there are none; names the sequences that have some.
    """
    all_of_split = [frame for frame in frames if frame.split == split]
    found = [frame for frame in all_of_split if frame.sequence in names]
    if not found:
        others = ", ".join(sorted({frame.sequence for frame in all_of_split}))
        raise InputError(
            f"dataset camvid: no {split} frame in sequence {', '.join(names)}; set dataset.{option} to some of {others}"
        )
    return found


def _resolve(option: str, values: Sequence[Any], known: Sequence[str]) -> list[str]:
    """Return the names of sequences; YAML reads 0016E5 without quotes as the number 1600000."""

    def number(name: str) -> float | None:
        with suppress(ValueError):
            return float(name)
        return None

    names = [next((name for name in known if name == value or number(name) == value), str(value)) for value in values]
    for name in names:
        if name not in known:
            raise unknown(f"dataset.{option}", name, known)
    return names
