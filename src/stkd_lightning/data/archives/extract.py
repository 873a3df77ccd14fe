"""Extract an archive that may be damaged or hostile: all or nothing, inside its folder, and limited in size."""

import bz2
import errno
import gzip
import io
import lzma
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from tqdm import tqdm

from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.text import printable

CHUNK = 1 << 20
TRAILER = 16 << 20  # bytes that may follow the end of a tar, which is padded to whole blocks
MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # faults of the machine, not of the archive
COMPRESSIONS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


@dataclass(frozen=True)
class Limits:
    """Limits of an archive's content.

    Attributes:
        members: number of members; of the official archives CINIC-10 has the most, 270,000.
        size: bytes of all contents; the largest official archives have less than 1 GiB.
    """

    members: int = 1_000_000
    size: int = 8 << 30


class Member(NamedTuple):
    """A member of an archive. ``plain``: it is a file or a folder. A folder has no content."""

    name: str
    plain: bool
    content: IO[bytes] | None


class _ForwardStream(io.RawIOBase):
    """A stream that is read forward in small steps, whatever a damaged header claims; ``last`` is the last block."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.last = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= CHUNK:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        self.last = self.stream.read(size)
        return self.last

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or not 0 <= offset - self.stream.tell() <= CHUNK:
            raise tarfile.ReadError(f"a header points to byte {offset}")
        return self.stream.seek(offset)

    def tell(self) -> int:
        return self.stream.tell()


def _tar(path: Path) -> Generator[Member, None, None]:
    with path.open("rb") as file:
        start = file.read(8)
    opened = next((opener for magic, opener in COMPRESSIONS.items() if start.startswith(magic)), open)
    with opened(path, "rb") as compressed:
        stream = _ForwardStream(compressed)
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                plain = member.isdir() or (member.isfile() and not member.issparse())
                yield Member(member.name, plain, tar.extractfile(member) if plain and member.isfile() else None)
        # tarfile takes a damaged header for the end, and a compressed stream reports damage only at its end.
        if stream.last != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it is incomplete")
        for _ in range(TRAILER // CHUNK):
            if not stream.read(CHUNK):
                return
        raise tarfile.ReadError("too many bytes follow its end")


def _is_zip(archive: Path) -> bool:
    """Return true for a zip file; a tar that ends with one, such as a checkpoint, has the end of one only."""
    with archive.open("rb") as file:
        return file.read(2) == b"PK" and zipfile.is_zipfile(file)


def _zip(path: Path) -> Generator[Member, None, None]:
    with zipfile.ZipFile(path) as archive:
        if _declared(path, len(archive.comment)) not in (0xFFFF, len(archive.infolist()) & 0xFFFF):
            raise zipfile.BadZipFile("its directory is incomplete")
        for member in archive.infolist():
            # Other methods decompress a whole block of any size at once.
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"compression method {member.compress_type}")
            plain = member.external_attr >> 28 in (0, 0o04, 0o10)  # file type, if the archive was made on Unix
            yield Member(member.filename, plain, None if member.is_dir() else archive.open(member))


def _declared(path: Path, comment: int) -> int:
    """Return the number of members in a zip's end record, modulo 65,536; 65,535 may mean any number."""
    with path.open("rb") as file:
        file.seek(-22 - comment, io.SEEK_END)
        return int.from_bytes(file.read(22)[10:12], "little")


class _Target:
    """The folder that receives the members, within limits."""

    def __init__(self, archive: Path, root: Path, limits: Limits) -> None:
        self.archive, self.root, self.limits = archive, root, limits
        self.members = self.size = 0

    def add(self, member: Member) -> None:
        """Write a member."""
        path = (self.root / member.name).resolve()
        if not member.plain or not path.is_relative_to(self.root):
            raise InputError(
                f"archive {self.archive}: refused, its member {member.name[:200]!r} does not stay in its folder"
            )
        self.members += 1
        if self.members > self.limits.members:
            raise InputError(f"archive {self.archive}: refused, more than {self.limits.members:,} members; delete it")
        if member.content is None:
            self._room(0)
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with member.content as content, path.open("wb") as file:
            while block := content.read(CHUNK):
                self._room(len(block))
                file.write(block)

    def _room(self, size: int) -> None:
        """Count bytes before they are written; sizes in headers are not trusted."""
        self.size += size
        if self.size > self.limits.size:
            raise InputError(
                f"archive {self.archive}: refused, it contains more than {self.limits.size:,} bytes; delete it"
            )
        disk = shutil.disk_usage(self.root)
        if disk.free - size < min(disk.total // 100, 256 << 20):  # reserved for other programs
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.root))


def extract(archive: Path, folder: Path, limits: Limits | None = None) -> None:
    """Extract an archive to a folder that appears complete or not at all.

    Args:
        archive: tar (plain, gzip, bzip2, xz) or zip; a top folder with the name of ``folder`` is removed.
        folder: receives the content; it must not exist.
        limits: limits of number and size of the members.

    Raises:
        InputError: a damaged or too large archive, or a member that is a link, a device or outside the folder.
        OSError: the disk is full, or the content would fill it.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        target = _Target(archive, partial.resolve(), limits or Limits())
        with closing(_zip(archive) if _is_zip(archive) else _tar(archive)) as members:
            for member in tqdm(members, desc=f"unpack {printable(archive.name)}", unit="file", disable=None):
                target.add(member)
        if not target.members:
            raise tarfile.ReadError("it is empty")
        top = partial / folder.name
        (top if top.is_dir() else partial).rename(folder)
    except PermissionError as error:
        raise InputError(f"archive {archive}: cannot be extracted to {folder} ({reason(error)})") from error
    except Exception as error:  # tarfile, zipfile and the decompressors raise many types for a damaged file
        if isinstance(error, InputError) or (isinstance(error, OSError) and error.errno in MACHINE):
            raise
        raise InputError(f"archive {archive}: broken ({reason(error)}); delete it and run again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
