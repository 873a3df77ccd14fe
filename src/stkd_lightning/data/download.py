"""Fetching an official archive and unpacking it: resumed, verified, and never outside its folder."""

import hashlib
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from tqdm import tqdm

from stkd_lightning.errors import InputError

CHUNK = 1 << 20
ATTEMPTS = 5


@dataclass(frozen=True)
class Archive:
    """An official archive of a data set.

    Attributes:
        url: where it is.
        md5: of the archive; ``None`` skips the check.
        folder: the folder of ``data_dir`` that it becomes.
        flat: whether its members lie at its top, without that folder.
    """

    url: str
    md5: str | None
    folder: str
    flat: bool = False

    @property
    def name(self) -> str:
        """File name of the archive."""
        return self.url.rsplit("/", 1)[-1]

    def command(self, data_dir: Path) -> str:
        """Return the shell command that gets the data by hand."""
        target = data_dir / self.name
        into = data_dir / self.folder if self.flat else data_dir
        unpack = f"unzip -q {target} -d {into}" if self.name.endswith(".zip") else f"tar xzf {target} -C {into}"
        return f"mkdir -p {into} && curl -L -o {target} {self.url} && {unpack}"


def md5_of(path: Path) -> str:
    """Return a file's md5 in hexadecimal."""
    digest = hashlib.md5()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _resume(url: str, part: Path) -> None:
    """Append what is missing to a partial file; start over where the server cannot continue it."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send: whole, or longer than the archive, which the md5 tells
            return
        raise
    with response:
        continued = response.status == 206
        total = int(response.headers.get("Content-Length") or 0) + (have if continued else 0)
        with (
            part.open("ab" if continued else "wb") as file,
            tqdm(
                total=total or None,
                initial=have if continued else 0,
                unit="B",
                unit_scale=True,
                desc=part.stem,
                disable=None,
            ) as bar,
        ):
            while block := response.read(CHUNK):
                file.write(block)
                bar.update(len(block))
        if total and part.stat().st_size < total:
            raise HTTPException(f"connection closed at {part.stat().st_size} of {total} bytes")


def fetch(archive: Archive, data_dir: Path, *, pause: float = 1.0) -> Path:
    """Download an archive, continuing a partial one and trying again after a fault.

    Args:
        archive: what to get.
        data_dir: receives the archive; one that is already there is only verified.
        pause: seconds before the second attempt, doubled for each further one.

    Returns:
        The verified archive.

    Raises:
        InputError: not to be had, or with another md5.
    """
    path, part = data_dir / archive.name, data_dir / f"{archive.name}.part"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        for attempt in range(ATTEMPTS):
            try:
                _resume(archive.url, part)
                break
            except (OSError, HTTPException) as error:
                gone = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404, 410)
                unreachable = isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError)
                if gone or unreachable or attempt == ATTEMPTS - 1:
                    reason = getattr(error, "reason", None) or error
                    raise InputError(
                        f"{archive.folder} is not in {data_dir} and {archive.url} failed ({reason}); "
                        f"get it with: {archive.command(data_dir)}"
                    ) from error
                time.sleep(pause * 2**attempt)
        if archive.md5 and (got := md5_of(part)) != archive.md5:
            part.unlink()
            raise InputError(f"{archive.url}: broken download, md5 {got} instead of {archive.md5}; run again to retry")
        part.rename(path)
    elif archive.md5 and (got := md5_of(path)) != archive.md5:
        raise InputError(f"archive {path}: broken, md5 {got} instead of {archive.md5}; delete it and run again")
    return path


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, bool, IO[bytes] | None]]]:
    """Open an archive as (name, is a plain file or folder, content) of its members; folders have no content."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as z:
            yield (
                (i.filename, (i.external_attr >> 28) != 0o12, None if i.is_dir() else z.open(i)) for i in z.infolist()
            )
    else:
        with tarfile.open(archive) as t:
            yield ((m.name, m.isfile() or m.isdir(), t.extractfile(m) if m.isfile() else None) for m in t)


def extract(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder that appears only when whole.

    Args:
        archive: tar (any compression) or zip; its own top folder of the same name is left out.
        folder: receives the content; must not exist.

    Raises:
        InputError: damaged, or a member that is a link, a device or lies outside the folder.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    root = partial.resolve()
    try:
        with _members(archive) as members:
            for name, plain, content in tqdm(members, desc=f"unpack {archive.name}", unit="file", disable=None):
                target = (root / name).resolve()
                if not plain or not target.is_relative_to(root):
                    raise InputError(f"archive {archive}: refused, its member {name!r} does not stay in its folder")
                if content is None:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with content, target.open("wb") as file:
                    shutil.copyfileobj(content, file, CHUNK)
        top = partial / folder.name
        (top if top.is_dir() else partial).rename(folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        if isinstance(error, InputError) or (isinstance(error, OSError) and error.errno == 28):
            raise
        raise InputError(f"archive {archive}: broken ({error}); delete it and run again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
