"""Files as one tar, cut into parts of limited size, and put together again."""

import io
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from stkd_lightning.data.archives.extract import extract
from stkd_lightning.utilities.files import write_bytes

MIB = 1 << 20


def tar(files: Mapping[str, Path]) -> bytes:
    """Return a tar of files by their names in it, compressed lightly.

    A plain tar that ends with a checkpoint, itself a zip, could be taken for a zip.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1, format=tarfile.PAX_FORMAT) as archive:
        for name, path in files.items():
            archive.add(path, name, recursive=False)
    return buffer.getvalue()


def cut(content: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Cut bytes into parts of at most these sizes; parts that are not needed are left out.

    Raises:
        ValueError: the parts cannot hold the content.
    """
    if len(content) > sum(sizes):
        raise ValueError(f"{len(content)} bytes, but the parts hold {sum(sizes)}")
    parts = []
    for size in sizes:
        part, content = content[:size], content[size:]
        if part:
            parts.append(part)
    return parts


def write_parts(folder: Path, name: str, parts: Sequence[bytes]) -> list[Path]:
    """Write parts as ``NAME.0``, ``NAME.1``, ... and remove those of an earlier write."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}.[0-9]*"):
        old.unlink()
    paths = [folder / f"{name}.{number}" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        write_bytes(path, part)
    return paths


def extract_parts(parts: Sequence[Path], folder: Path) -> None:
    """Put the parts of a tar together, and extract it to a folder that does not exist yet.

    Raises:
        InputError: a part is missing or damaged, or a member would leave the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        whole = Path(name) / "parts.tar"
        with whole.open("wb") as file:
            for part in parts:
                file.write(part.read_bytes())
        extract(whole, folder)
