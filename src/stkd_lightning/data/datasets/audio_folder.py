"""A user's own sound clips: files and a table of their tags."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from stkd_lightning.data.arrays import RawData
from stkd_lightning.data.clip_module import ClipDataModule
from stkd_lightning.data.clip_reading import read_clips
from stkd_lightning.data.tag_table import TableFiles


class AudioFolderDataModule(ClipDataModule):
    """Wav, flac, ogg and mp3 files of any rate, number of channels and length, with the tags of a CSV file.

    Channels are averaged, and other rates resampled, once. Without validation files a share of the training files is
    held out.

    Args:
        data_dir: folder of the table; paths in the table are relative to it.
        labels: name of the table: a header ``file,tags,split``, tags separated by ``;``, splits train, val and test.
        classes: name of a text file with a tag on each line, in the order of the outputs; ``None``: the tags of the
            training files, sorted.
        options: those of ``ClipDataModule``.

    Raises:
        InputError: a missing table, a row that does not fit, or a file that cannot be read.
    """

    name = "audio_folder"

    def __init__(
        self, data_dir: str | Path = "data", *, labels: str = "labels.csv", classes: str | None = None, **options: Any
    ) -> None:
        super().__init__(data_dir, **options)
        self.table = TableFiles(labels, classes)

    def options(self) -> dict[str, object]:
        """Return the names of table and classes, and the rate."""
        return super().options() | asdict(self.table)

    def locate(self) -> Path:
        """Return the folder of the table; refuse it if the table is missing."""
        self.table.check(self.data_dir, self.name)
        return self.data_dir

    def stamps(self, folder: Path) -> list[Path]:
        """Return the table, the classes and all clips."""
        return self.table.paths(folder)

    def read(self, folder: Path) -> RawData:
        """Read the clips."""
        table = self.table.read(folder)
        splits = {
            split: read_clips(paths, table.labels[split], self.sample_rate, f"{split} clips")
            for split, paths in table.files.items()
        }
        return RawData(splits, table.class_names, sample_rate=self.sample_rate)
