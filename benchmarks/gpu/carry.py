"""What travels: data, teachers and unfinished runs to the GPU machine; records, teachers and checkpoints back."""

import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from accuracy import Job

from gpu import cifar, evidence
from gpu.parts import MIB, cut, extract_parts, tar, write_parts
from gpu.places import Places
from gpu.sizes import Sizes
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import write_bytes

CALL = 60 * MIB  # largest size of the folder of a call
FILE = 15 * MIB  # largest size of a file that comes back
FILES = 8  # largest number of files that come back: results.tar and the parts of weights.tar
PADDING = 1 << 10  # bytes by which tars of groups may be smaller than one tar
STATE = ("last.ckpt", "metrics.csv", "config.yaml")  # what a run is resumed from
RETURNED = re.compile(
    r"benchmarks/(results/(\w[\w.=-]*/)*\w[\w.=-]*\.json|teachers/\w+\.(json|safetensors))"
    r"|outputs/gpu/runs/(\w[\w.=-]*/)*(last\.ckpt|metrics\.csv|config\.yaml)"
)
Files = dict[str, Path]


def named(paths: Iterable[Path], root: Path) -> Files:
    """Return files by their names below a root."""
    return {path.relative_to(root).as_posix(): path for path in paths}


def state_of(run: Path, root: Path) -> Files:
    """Return the files that a run is resumed from."""
    return named([path for name in STATE for path in sorted(run.rglob(name))], root)


def fitting(groups: Sequence[Files], room: int) -> tuple[Files, list[str]]:
    """Return the files of the first groups that fit, each whole, and the names of the other files.

    Args:
        groups: in the order of their worth.
        room: bytes of a tar.
    """
    chosen: Files = {}
    left: list[str] = []
    for group in groups:
        more = {name: path for name, path in group.items() if name not in chosen}
        size = len(tar(more)) + PADDING if more else 0
        if size <= room:
            chosen, room = chosen | more, room - size
        else:
            left += list(more)
    return chosen, [name for name in dict.fromkeys(left) if name not in chosen]


def to_carry(sizes: Sizes, places: Places, room: int) -> tuple[Files, list[str]]:
    """Return the files that both calls carry beside the tree, and the names of those without room.

    The data come first, then in the order of the queue the runs that are left: their teachers and what they are resumed
    from.

    Args:
        sizes: of the queue.
        places: folders of the queue; ``strips`` holds the data.
        room: bytes of both calls.

    Raises:
        InputError: the data have no room.
    """
    strips = {f"outputs/gpu/strips/{path.name}": path for path in sorted((places.carried / "strips").iterdir())}
    jobs = [job for job in evidence.jobs(sizes, places) if not job.done]
    runs = [teacher_of(job, places) | state_of(evidence.folder_of(job, places), places.root) for job in jobs]
    chosen, left = fitting([strips, *runs], room)
    if not strips.keys() <= chosen.keys():
        raise InputError(f"{places.carried / 'strips'}: has more than the {room >> 20} MiB of both calls")
    return chosen, left


def teacher_of(job: Job, places: Places) -> Files:
    """Return the weights of the teacher that a run reads, if they are there."""
    path = places.teachers / f"{evidence.teacher_of(job.table, job.part)}.safetensors"
    return named([path], places.root) if path.is_file() else {}


def lay_out(places: Places) -> None:
    """Put the parts of both calls together, once, and write the data as the official files.

    Raises:
        InputError: a part is missing or damaged.
    """
    parts, data = sorted(places.carried.glob("[12]/part.*")), places.work / "data" / cifar.FOLDER
    if not parts or data.is_dir():
        return
    wanted = int((parts[0].parent / "parts").read_text())
    if len(parts) < wanted:
        raise InputError(f"{places.carried}: has {len(parts)} of {wanted} parts; carry {places.carried.name}/1 and /2")
    whole = places.work / "carried"
    shutil.rmtree(whole, ignore_errors=True)
    extract_parts(parts, whole)
    move(whole, places.root)
    cifar.read_strips(places.work / "strips", data)


def move(folder: Path, root: Path) -> list[str]:
    """Move all files of a folder to the same names below a root, and return their names."""
    files = named(sorted(path for path in folder.rglob("*") if path.is_file()), folder)
    for name, path in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    shutil.rmtree(folder)
    return list(files)


def kept(places: Places) -> dict[Path, int]:
    """Return the records that are there, with the times of their last change."""
    found = [*places.results.rglob("*.json"), *places.teachers.glob("*.json")]
    return {path: path.stat().st_mtime_ns for path in sorted(found)}


def deliver(sizes: Sizes, places: Places, before: Mapping[Path, int], out: Path, *, weights: bool) -> list[str]:
    """Write what goes back: ``results.tar`` with the new records, and parts of new teachers and unfinished runs.

    A file without content is not written.

    Args:
        sizes: of the queue.
        places: folders of the queue.
        before: what ``kept`` returned when the call began.
        out: folder that receives the files.
        weights: write the parts too.

    Returns:
        The names of the files without room.
    """
    out.mkdir(parents=True, exist_ok=True)
    records = [path for path, time in kept(places).items() if before.get(path) != time]
    (out / "results.tar").unlink(missing_ok=True)
    if records:
        write_bytes(out / "results.tar", tar(named(records, places.root)))
    if not weights:
        return []
    teachers = [
        named([path.with_suffix(".safetensors")], places.root) for path in records if path.parent == places.teachers
    ]
    runs = [state_of(run, places.root) for run in evidence.unfinished(sizes, places)]
    chosen, left = fitting([*teachers, *runs], (FILES - 1) * FILE)
    write_parts(out, "weights.tar", cut(tar(chosen), [FILE] * (FILES - 1)) if chosen else [])
    return left


def unpack(out: Path, places: Places) -> list[str]:
    """Lay out what came back: records, teachers and unfinished runs at their places; return their names.

    Raises:
        InputError: a file is missing or damaged, or a member does not belong to any of these places.
    """
    tars = [files for pattern in ("results.tar", "weights.tar.[0-9]") if (files := sorted(out.glob(pattern)))]
    if not tars:
        raise InputError(f"{out}: holds no results.tar and no weights.tar.0; name the --out of run.py")
    names = []
    for files in tars:
        with tempfile.TemporaryDirectory(dir=places.root) as temporary:
            folder = Path(temporary) / "content"
            extract_parts(files, folder)
            members = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
            if odd := [name for name in members if not RETURNED.fullmatch(name)]:
                raise InputError(f"{files[0]}: refused, {odd[0]!r} is no record, teacher or checkpoint")
            names += move(folder, places.root)
    return names
