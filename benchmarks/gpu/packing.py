"""The folder to carry of each call, and the weights that stay at home."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import machine

from gpu import carry, cifar
from gpu.parts import cut, tar, write_parts
from gpu.places import Places
from gpu.sizes import Sizes
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import write_json

BUILT = ("antlr4-python3-runtime==4.9.3",)  # has no wheel
FETCHED = ("hydra-core>=1.3.2,<1.4", "omegaconf>=2.3,<2.4")
RESERVE = 64 << 10  # bytes of a folder for the commit and the number of parts


def make_wheels(folder: Path) -> None:
    """Build and download the packages that the GPU machine lacks, once."""
    if folder.is_dir():
        return
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "-w", str(folder), *BUILT], check=True)
    subprocess.run([*pip, "download", "--quiet", "--no-deps", "-d", str(folder), *FETCHED], check=True)


def first_call(sizes: Sizes, places: Places, wheels: Path) -> None:
    """Make the folder of the first call, and keep the part of the second.

    Raises:
        InputError: the data are missing, damaged or too large.
    """
    put_back(places)
    make_wheels(wheels)
    if not (places.carried / "strips").is_dir():
        official = Path(os.environ.get("STKD_DATA", "data")) / cifar.FOLDER
        cifar.write_strips(official, places.carried / "strips")
    room = carry.CALL - sum(path.stat().st_size for path in wheels.glob("*.whl")) - RESERVE
    files, left = carry.to_carry(sizes, places, 2 * room)
    parts = write_parts(places.carried, "part", cut(tar(files), [room, room]))
    for call in (1, 2):
        folder = places.carried / str(call)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "parts").write_text(str(len(parts)))
        for part in parts[call - 1 : call]:
            shutil.move(part, folder / part.name)
    if left:
        print(f"no room for: {', '.join(left)}; they wait for another allotment")


def finish(call: int, places: Places, wheels: Path) -> None:
    """Add the wheels and the commit to the folder of a call, and set the weights in the tree aside.

    Raises:
        InputError: the first call was not packed.
    """
    folder = places.carried / str(call)
    if not folder.is_dir():
        raise InputError(f"{folder}: missing; run pack.py --call 1 first")
    (folder / "wheels").mkdir(exist_ok=True)
    for wheel in wheels.glob("*.whl"):
        shutil.copy(wheel, folder / "wheels")
    write_json(folder / "commit.json", machine.commit())
    set_aside(places)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    stages = "check speed" if call == 1 else "teachers evidence"
    print(f"{folder}: {size / carry.MIB:.1f} MiB to carry beside the tree; there run:")
    print(f"  python benchmarks/gpu/run.py --budget 480 --out DIR --only {stages}")


def set_aside(places: Places) -> None:
    """Move the weights of the teachers out of the tree, which travels whole."""
    aside = places.carried / "aside"
    aside.mkdir(parents=True, exist_ok=True)
    for path in places.teachers.glob("*.safetensors"):
        shutil.move(path, aside / path.name)


def put_back(places: Places) -> None:
    """Move the weights back."""
    for path in (places.carried / "aside").glob("*.safetensors"):
        places.teachers.mkdir(parents=True, exist_ok=True)
        shutil.move(path, places.teachers / path.name)


def pack(call: int, sizes: Sizes, places: Places, wheels: Path) -> None:
    """Make the folder of a call.

    Raises:
        InputError: the data are missing, damaged or too large, or the first call was not packed.
    """
    if call == 1:
        first_call(sizes, places, wheels)
    finish(call, places, wheels)


def unpack(out: Path, places: Places) -> None:
    """Lay out what came back, and print the names of the files.

    Raises:
        InputError: a file is missing, damaged or foreign.
    """
    put_back(places)
    print("\n".join(carry.unpack(out, places)))
