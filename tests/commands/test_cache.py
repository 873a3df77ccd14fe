"""The command ``cache``: what it lists, what it deletes, and what it leaves."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from stkd_lightning.commands.cache import DAY, cache
from stkd_lightning.commands.cache_entries import Entry, find_entries
from stkd_lightning.commands.config.command_checks import check_cache
from stkd_lightning.utilities.choices import CACHE_KINDS
from stkd_lightning.utilities.errors import InputError


def write(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache with an entry of each kind and each leftover, last used 1 to 10 days ago."""
    data, trained, replay = tmp_path / "data", tmp_path / "trained", tmp_path / "replay"
    write(data / "set-1" / "facts.json", json.dumps({"splits": ["train"], "class_names": ["a", "b"]}).encode())
    np.save(data / "set-1" / "train_images.npy", np.zeros((20, 3, 4, 6), np.uint8))
    write(data / "set-1.lock")
    write(data / ".set-2.partial" / "train_images.npy", bytes(100))
    write(data / "set-download.lock")
    write(trained / "a1" / "figures.json", json.dumps({"test": {"last": {"accuracy": 0.5}}}).encode())
    about = {"role": "teacher", "network": "resnet8", "data": "digits", "epochs": 2}
    write(trained / "a1" / "about.json", json.dumps(about).encode())
    os.link(write(trained / "a1" / "last.ckpt", bytes(3 << 20)), trained / "a1" / "best.ckpt")
    write(trained / "b2.partial" / "last.ckpt")
    write(trained / "c3.damaged" / "figures.json")
    write(trained / "d4" / "figures.json", b"{")
    write(replay / "e5" / "epoch-0-of-3.0", bytes(10))
    write(replay / "e5" / "epoch-0-of-3.0.json", b"{}")
    write(tmp_path / "accuracy" / "f6.json", b"0.5")
    write(tmp_path / "compiled" / "kernel.so")
    for age, entry in enumerate(find_entries(tmp_path), start=1):
        for path in (*entry.path.rglob("*"), entry.path):
            os.utime(path, (time.time() - age * DAY,) * 2)
    return tmp_path


def found(root: Path) -> dict[str, Entry]:
    return {str(entry.path.relative_to(root)): entry for entry in find_entries(root)}


def run(root: Path, **options: object) -> None:
    defaults = {"kind": None, "older_than_days": None, "larger_than_gib": None, "prune": False}
    config = OmegaConf.create({"cache_dir": str(root), **defaults, **options})
    check_cache(config)
    cache(config)


def test_entries_are_described(root: Path) -> None:
    assert {name: (entry.kind, entry.about) for name, entry in found(root).items()} == {
        "data/set-1": ("data", "20 train images 4x6, 2 classes"),
        "trained/a1": ("trained", "teacher: resnet8 on digits, 2 epochs, accuracy 0.500"),
        "trained/d4": ("trained", "damaged"),
        "replay/e5": ("replay", "a teacher's logits of 1 pass"),
        "accuracy": ("accuracy", "accuracies of teachers"),
        "compiled": ("compiled", "compiled code of networks"),
        "data/.set-2.partial": ("leftovers", "leftover: unfinished"),
        "data/set-download.lock": ("leftovers", "leftover: lock"),
        "trained/b2.partial": ("leftovers", "leftover: unfinished"),
        "trained/c3.damaged": ("leftovers", "leftover: damaged"),
    }
    assert {entry.kind for entry in found(root).values()} == set(CACHE_KINDS)


def test_entries_count_a_linked_file_once(root: Path) -> None:
    assert 3 << 20 < found(root)["trained/a1"].size < 4 << 20


def test_list_shows_size_and_age(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(root)
    text = " ".join(capsys.readouterr().out.split())
    assert "trained/a1" in text
    assert "3 MiB 2 days ago" in text
    assert f"{root}: 10 entries, " in text
    assert len(found(root)) == 10


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"kind": "leftovers"}, 6),
        ({"kind": ["replay", "accuracy"]}, 8),
        ({"older_than_days": 4.5}, 4),
        ({"larger_than_gib": 0.002}, 9),
        ({"older_than_days": 3.5, "kind": "trained"}, 10),
        ({"older_than_days": 0}, 0),
    ],
)
def test_prune_deletes_what_is_chosen(options: dict[str, object], left: int, root: Path) -> None:
    run(root, **options)
    assert len(found(root)) == 10
    run(root, **options, prune=True)
    assert len(found(root)) == left
    assert left or not [path for path in root.rglob("*") if path.is_file()]


def test_prune_keeps_what_a_process_writes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locks = [root / "data" / "set-1.lock", root / "data" / "set-2.lock", root / "trained" / "b2.lock",
             root / "replay" / "e5" / "epoch-1-of-3.lock"]  # fmt: skip
    program = (
        "import sys; from filelock import FileLock\nheld = [FileLock(path) for path in sys.argv[1:]]\n"
        "for lock in held: lock.acquire()\nprint('held', flush=True)\nsys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, locks)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    run(root, older_than_days=0, prune=True)
    assert set(found(root)) == {"data/set-1", "data/.set-2.partial", "trained/b2.partial", "replay/e5"}
    assert all(lock.exists() for lock in locks)
    assert capsys.readouterr().out.count("in use") == 4 * 2
    holder.communicate("")
    run(root, older_than_days=0, prune=True)
    assert not found(root)


def test_prune_leaves_the_target_of_a_link(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = write(tmp_path_factory.mktemp("elsewhere") / "file").parent
    (root / "data" / "linked").symlink_to(elsewhere)
    run(root, kind="data", prune=True)
    assert (elsewhere / "file").exists()
    assert not (root / "data" / "linked").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "traind"}, "kind 'traind': unknown; did you mean trained"),
        ({"older_than_days": -1}, "older_than_days=-1: must be"),
        ({"larger_than_gib": "big"}, "larger_than_gib='big': must be"),
        ({"prune": True}, "prune=true: would delete the whole cache"),
        ({"cache_dir": "nowhere"}, "cache_dir=nowhere: no such folder"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], words: str, root: Path) -> None:
    with pytest.raises(InputError, match=words):
        run(root, **options)
    assert len(found(root)) == 10


def test_list_loads_no_torch(root: Path) -> None:
    (root / "trained" / "d4" / "figures.json").unlink()
    script = (
        "import sys\nfrom stkd_lightning.cache import main\nmain()\n"
        "assert not {'torch', 'lightning', 'torchvision'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, f"cache_dir={root}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "10 entries" in done.stdout
