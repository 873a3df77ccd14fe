"""Entries of the cache: what they are, how large and how old, and whether a process writes them. No torch for most."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from stkd_lightning.utilities.cache import DAMAGED

LEFTOVERS = {".partial": "unfinished", ".old": "replaced", DAMAGED: "damaged", ".lock": "lock"}


@dataclass(frozen=True)
class Entry:
    """A folder or file of the cache.

    Attributes:
        kind: one of ``choices.CACHE_KINDS``.
        path: of the folder or file.
        about: what it is.
        size: in bytes.
        used: time of its last use, in seconds since the epoch.
        locks: the locks of processes that write it.
    """

    kind: str
    path: Path
    about: str
    size: int
    used: float
    locks: tuple[Path, ...]

    @property
    def in_use(self) -> bool:
        """True if a process is writing it."""
        return any(_is_held(lock) for lock in self.locks)

    def delete(self) -> bool:
        """Delete the entry and its locks, unless a process is writing it; return whether it was deleted.

        Raises:
            OSError: the cache cannot be written.
        """
        with ExitStack() as stack:
            try:
                for path in self.locks:
                    stack.enter_context(FileLock(path, timeout=0))
            except Timeout:
                return False
            if self.path.is_dir() and not self.path.is_symlink():
                shutil.rmtree(self.path)
            else:
                self.path.unlink(missing_ok=True)
            for path in self.locks:
                path.unlink(missing_ok=True)
        return True


def find_entries(cache: Path) -> Iterator[Entry]:
    """Yield the entries of a cache, by kind and name."""
    leftovers = []
    for kind, describe in (("data", _describe_data), ("trained", _describe_trained), ("replay", _describe_passes)):
        for path in sorted((cache / kind).glob("*")):
            lock = path.with_name(path.name.lstrip(".")).with_suffix(".lock")
            if path.suffix in LEFTOVERS:
                if path != lock or not _has_entry(lock):
                    leftovers.append(_entry("leftovers", path, f"leftover: {LEFTOVERS[path.suffix]}", (lock,)))
            elif path.is_dir():
                locks = tuple(path.glob("*.lock")) if kind == "replay" else (lock,)
                yield _entry(kind, path, describe(path), locks)
    for kind, about in (("accuracy", "accuracies of teachers"), ("compiled", "compiled code of networks")):
        if (cache / kind).is_dir():
            yield _entry(kind, cache / kind, about, ())
    yield from leftovers


def _has_entry(lock: Path) -> bool:
    names = lock.stem, f"{lock.stem}.partial", f".{lock.stem}.partial"
    return any(lock.with_name(name).exists() for name in names)


def _entry(kind: str, path: Path, about: str, locks: tuple[Path, ...]) -> Entry:
    sizes: dict[int, int] = {}  # by inode: a checkpoint may have two names
    used = 0.0
    for file in (path, *path.rglob("*")):
        with suppress(OSError):  # deleted in this moment
            facts = file.lstat()
            used = max(used, facts.st_mtime)
            if not file.is_dir():
                sizes[facts.st_ino] = facts.st_size
    return Entry(kind, path, about, sum(sizes.values()), used, locks)


def _is_held(lock: Path) -> bool:
    if lock.exists():
        try:
            with FileLock(lock, timeout=0):
                pass
        except Timeout:
            return True
        except OSError:  # a cache that cannot be written
            pass
    return False


def _describe_data(folder: Path) -> str:
    try:
        facts = json.loads((folder / "facts.json").read_bytes())
        if "lengths" in facts:
            return _describe_clips(facts)
        sizes = {name: _image_sizes(folder, name, facts) for name in facts["splits"]}
        counts = " + ".join(f"{len(values):,} {name}" for name, values in sizes.items())
        least, most = sizes["train"].min(0), sizes["train"].max(0)
        size = "x".join(map(str, least)) + ("" if (least == most).all() else f" to {'x'.join(map(str, most))}")
        return f"{counts} images {size}, {len(facts['class_names'])} classes"
    except Exception:  # a damaged file raises many types
        return "damaged"


def _describe_clips(facts: dict[str, Any]) -> str:
    lengths = {name: np.array(values) / facts["sample_rate"] for name, values in facts["lengths"].items()}
    counts = " + ".join(f"{len(values):,} {name}" for name, values in lengths.items())
    least, most = (f"{bound(lengths['train']):.3g}" for bound in (np.min, np.max))
    seconds = least if least == most else f"{least} to {most}"
    return f"{counts} clips of {seconds} s, {len(facts['class_names'])} tags"


def _image_sizes(folder: Path, split: str, facts: dict[str, Any]) -> NDArray[np.int64]:
    """Return height and width of the images of a split, ``(N, 2)``; unequal ones are in the facts or the records."""
    if "sizes" in facts:
        return np.array(facts["sizes"][split])
    if "root" in facts:
        files = np.load(folder / f"{split}_images.npy", mmap_mode="r")
        return np.stack([files["height"], files["width"]], axis=1).astype(np.int64)
    count, _, *sides = np.load(folder / f"{split}_images.npy", mmap_mode="r").shape
    return np.broadcast_to(np.array(sides), (count, 2))


def _describe_trained(folder: Path) -> str:
    try:
        figures = json.loads((folder / "figures.json").read_bytes())["test"]["last"]
        name = next(iter(figures))
        return f"{_about_network(folder)}, {name} {figures[name]:.3f}"
    except Exception:  # a damaged file raises many types
        return "damaged"


def _about_network(folder: Path) -> str:
    """Return network and data of a trained network."""
    path = folder / "about.json"
    if path.is_file():
        about = json.loads(path.read_bytes())
        epochs = "1 epoch" if about["epochs"] == 1 else f"{about['epochs']} epochs"
        return f"{about['role']}: {about['network']} on {about['data']}, {epochs}"
    # Networks that an older version trained have it in their checkpoint only.
    from stkd_lightning.inference.about import name_of
    from stkd_lightning.inference.provenance import StudentProvenance

    origin = StudentProvenance.from_checkpoint(folder / "last.ckpt")
    return f"{name_of(origin.network)} on {origin.data.name}"


def _describe_passes(folder: Path) -> str:
    passes = len({path.stem.rpartition(".")[0] for path in folder.glob("*.json")})
    return f"a teacher's logits of {passes} {'pass' if passes == 1 else 'passes'}"
