"""Download an official archive: resumed, verified, and limited in size."""

import hashlib
import re
import shlex
import time
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from tqdm import tqdm

from stkd_lightning.data.archives.extract import CHUNK, MACHINE, Limits
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.redaction import redacted
from stkd_lightning.utilities.text import printable

ATTEMPTS = 5


@dataclass(frozen=True)
class Archive:
    """An official archive of a data set.

    Attributes:
        url: address of the archive.
        md5: checksum of the archive; ``None`` skips the check.
        folder: name of its folder in ``data_dir``.
        flat: whether the archive has its members at the top, without this folder.
        limits: limits of its content; the archive itself has at most the same size.
    """

    url: str
    md5: str | None
    folder: str
    flat: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def name(self) -> str:
        """File name of the archive."""
        return re.split("[?#]", self.url)[0].rsplit("/", 1)[-1]  # a query may be a credential

    def command(self, data_dir: Path) -> str:
        """Return the shell command that downloads the data, with ``***`` in place of credentials."""
        target = data_dir / self.name
        into = data_dir / self.folder if self.flat else data_dir
        unpack = f"unzip -q {target} -d {into}" if self.name.endswith(".zip") else f"tar xzf {target} -C {into}"
        return f"mkdir -p {into} && curl -L -o {target} {shlex.quote(redacted(self.url))} && {unpack}"


def md5_of(path: Path) -> str:
    """Return a file's md5 in hexadecimal."""
    digest = hashlib.md5()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _request(url: str, headers: dict[str, str]) -> urllib.request.Request:
    """Return a request; user and password of the address go into a header that no redirect repeats."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)), headers=headers)
    if at:
        name, _, password = user.partition(":")
        pair = b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {pair}")
    return request


def _resume(url: str, part: Path, most: int) -> None:
    """Append the missing bytes to a partial file, up to ``most`` bytes; start again if the server cannot resume.

    Raises:
        InputError: the server sends more than ``most`` bytes.
    """
    offset = part.stat().st_size if part.exists() else 0
    request = _request(url, {"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # no bytes are left: the file is complete or too long, and the md5 shows which
            return
        raise
    with response:
        continued = response.status == 206
        length = response.headers.get("Content-Length") or ""
        size = offset if continued else 0
        total = size + int(length) if length.isdecimal() else 0
        with (
            part.open("ab" if continued else "wb") as file,
            tqdm(
                total=total or None,
                initial=size,
                unit="B",
                unit_scale=True,
                desc=printable(part.stem),
                disable=None,
            ) as bar,
        ):
            while size <= most and total <= most and (block := response.read(CHUNK)):
                size += len(block)
                file.write(block)
                bar.update(len(block))
        if size > most or total > most:
            part.unlink()
            shown = redacted(url)
            raise InputError(f"{shown}: refused, it has more than {most:,} bytes; set dataset.url to another place")
        if size < total:
            raise HTTPException(f"connection closed at {size} of {total} bytes")


def fetch(archive: Archive, data_dir: Path, *, pause: float = 1.0) -> Path:
    """Download an archive; resume a partial download and try again after a fault.

    Args:
        archive: the archive.
        data_dir: folder for the archive; an existing archive is only verified.
        pause: seconds before the second attempt, doubled for each further one.

    Returns:
        The verified archive.

    Raises:
        InputError: an archive that cannot be downloaded, has another md5, or is too large.
        OSError: the disk is full.
    """
    shown = redacted(archive.url)
    if archive.name in ("", ".", ".."):
        raise InputError(f"dataset.url={shown}: does not end with the name of an archive")
    path, part = data_dir / archive.name, data_dir / f"{archive.name}.part"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        for attempt in range(ATTEMPTS):
            try:
                _resume(archive.url, part, archive.limits.size)
                break
            except (OSError, HTTPException, ValueError) as error:
                if isinstance(error, InputError) or (isinstance(error, OSError) and error.errno in MACHINE):
                    raise
                gone = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404, 410)
                unreachable = isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError)
                unusable = isinstance(error, ValueError)  # not an address
                if gone or unreachable or unusable or attempt == ATTEMPTS - 1:
                    words = getattr(error, "reason", None) or reason(error)
                    raise InputError(
                        f"{archive.folder} is not in {data_dir} and {shown} failed ({redacted(str(words))}); "
                        f"get it with: {archive.command(data_dir)}"
                    ) from error
                time.sleep(pause * 2**attempt)
        if archive.md5 and (got := md5_of(part)) != archive.md5:
            part.unlink()
            raise InputError(f"{shown}: broken download, md5 {got} instead of {archive.md5}; run again to retry")
        part.rename(path)
    elif archive.md5 and (got := md5_of(path)) != archive.md5:
        raise InputError(f"archive {path}: broken, md5 {got} instead of {archive.md5}; delete it and run again")
    return path
