"""Data sets that are one official archive, which is downloaded if it is missing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from stkd_lightning.data.archives.download import Archive, fetch
from stkd_lightning.data.archives.extract import extract
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.utilities.cache import locked
from stkd_lightning.utilities.errors import InputError


class OfficialDataModule(ArrayDataModule):
    """A data module of an official archive.

    Args:
        data_dir: as in ``ArrayDataModule``.
        download: whether missing data may be downloaded.
        url: another address of the archive.
        md5: checksum of the archive at this address; ``None``: the official checksum; ``""``: no check.
        options: those of ``ArrayDataModule``.

    Raises:
        InputError: missing data that may not or cannot be downloaded; names the command that downloads them.
    """

    archive: Archive

    def __init__(
        self,
        data_dir: str | Path = "data",
        *,
        download: bool = True,
        url: str | None = None,
        md5: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(data_dir, **options)
        self.download = download
        official = type(self).archive
        self.archive = replace(official, url=url or official.url, md5=official.md5 if md5 is None else md5)

    def locate(self) -> Path:
        """Return the official folder; download and extract it if it is missing."""
        folder = self.data_dir / self.archive.folder
        if folder.is_dir():
            return folder
        if not self.download and not (self.data_dir / self.archive.name).exists():
            raise InputError(
                f"dataset {self.name}: {folder} is missing; get it with: {self.archive.command(self.data_dir)}"
            )
        with locked(self.cache / f"{self.name}-download"):
            if not folder.is_dir():
                extract(fetch(self.archive, self.data_dir), folder, self.archive.limits)
        return folder
