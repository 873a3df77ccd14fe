"""Pickles made to run code, or to fill memory or stack."""

import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stkd_lightning.data.archives.cifar_pickle import read_pickle
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.utilities.errors import InputError
from tests.faults.mutations import read

pytestmark = pytest.mark.usefixtures("in_its_folder")


def called(function: str, *arguments: Any) -> bytes:
    """Return a pickle that calls a function by its name."""
    module, _, name = function.rpartition(".")
    values = b"".join(pickle.dumps(a, protocol=0)[:-1] for a in arguments)
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + values + b"tR."


CALLS = [
    ("os.system", "touch executed"),
    ("posix.system", "touch executed"),
    ("subprocess.Popen", ["touch", "executed"]),
    ("builtins.eval", "open('executed', 'w')"),
    ("builtins.exec", "open('executed', 'w')"),
    ("__builtin__.eval", "open('executed', 'w')"),
    ("builtins.getattr", "a", "upper"),
    ("builtins.open", "executed", "w"),
    ("operator.attrgetter", "__class__"),
    ("functools.partial", 1),
    ("importlib.import_module", "this"),
    ("numpy.load", "x.npy"),
    ("numpy.fromfile", "/etc/passwd"),
    ("numpy.memmap", "executed", "u1", "w+", 0, (9,)),
    ("numpy.ndarray", (1 << 40,)),
    ("numpy.dtype", "O8", False, True),
    ("numpy.dtype", "V8", False, True),
    ("numpy.core.multiarray.fromstring", "a"),
    ("_codecs.encode", "a", "rot13"),
    ("_codecs.decode", "a", "unicode_escape"),
    ("torch.load", "x.pth"),
    ("torch.hub.load", "a/b", "c"),
    ("runpy.run_path", "x.py"),
    ("shutil.rmtree", "."),
    ("pathlib.Path", "executed"),
    ("stkd_lightning.models.weights.load_weights", None, "x"),
]


@pytest.mark.parametrize(("function", "arguments"), [(f, a) for f, *a in CALLS], ids=lambda v: str(v)[:30])
@pytest.mark.parametrize("reader", [read_pickle, read_checkpoint])
@pytest.mark.filterwarnings("ignore")  # torch tells of odd pickles
def test_nothing_is_called(reader: Callable[[Path], Any], function: str, arguments: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    for content in (
        called(function, *arguments),
        b"\x80\x02}X\x01\x00\x00\x00a" + called(function, *arguments)[2:-1] + b"s.",
    ):
        path.write_bytes(content)
        assert isinstance(read(function, lambda: reader(path)), InputError)
    torch.save({}, path)
    with zipfile.ZipFile(path) as torchs, zipfile.ZipFile(tmp_path / "zipped.pth", "w") as forged:
        for name in torchs.namelist():
            forged.writestr(name, called(function, *arguments) if name.endswith("data.pkl") else torchs.read(name))
    assert isinstance(read(function, lambda: reader(tmp_path / "zipped.pth")), InputError)


def array_pickle(
    dtype: bytes = b"u1", shape: bytes = b"K\x02K\x03\x86", content: bytes = b"abcdef", state: bytes = b""
) -> bytes:
    """Return an array pickled as Python 2 did it, with parts replaced."""
    plain = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87R" + (state or plain)
    return (
        b"\x80\x02}U\x04data" + made + b"(K\x01" + shape + kind + b"\x89U" + bytes([len(content)]) + content + b"tbs."
    )


def test_an_array_is_read(tmp_path: Path) -> None:
    (tmp_path / "train").write_bytes(array_pickle())
    assert read_pickle(tmp_path / "train")["data"].tolist() == [[97, 98, 99], [100, 101, 102]]
    for value in (np.arange(12, dtype="<i4").reshape(3, 4), np.asfortranarray(np.eye(3)), np.array(True)):
        for protocol in (2, 3, 4):
            (tmp_path / "train").write_bytes(pickle.dumps({"data": value, b"x": [1, (2.5, None)]}, protocol))
            back = read_pickle(tmp_path / "train")
            assert back[b"x"] == [1, (2.5, None)]
            assert np.array_equal(back["data"], value)
            assert back["data"].dtype == value.dtype


PICKLES = {
    "huge shape": array_pickle(shape=b"\x8a\x06\x00\x00\x00\x00\x00\x01K\x03\x86"),
    "negative shape": array_pickle(shape=b"J\xfe\xff\xff\xffJ\xfd\xff\xff\xff\x86"),
    "no shape": array_pickle(shape=b"N"),
    "shape of words": array_pickle(shape=b"U\x01a\x85"),
    "too few bytes": array_pickle(content=b"abc"),
    "objects": array_pickle(b"O8"),
    "unknown type": array_pickle(b"f1"),
    "a record": array_pickle(state=b"(K\x03U\x01|NU\x01a\x85}J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"),
    "object flags": array_pickle(state=b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb"),
    "unfinished array": b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87Rs.",
    "huge memo index": b"\x80\x02}r\xff\xff\xff\xffcos\nsystem\n.",
    "huge text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"abc.",
    "huge bytes": b"\x80\x02}U\x01aT\xff\xff\xff\x7fabcs.",
    "deep key": b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"Ns.",
    "too many opcodes": b"\x80\x02" + b")" * 1_000_010 + b".",
    "deep lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "an empty stack": b"\x80\x02.",
    "a mark": b"\x80\x02(.",
    "a mark inside": b"\x80\x02}(\x85.",
    "changed class": b"\x80\x02cnumpy\nndarray\n}U\x01aK\x01sb.",
    "persistent id": b"\x80\x02U\x01aQ.",
    "extension": b"\x80\x02\x82\x01.",
    "old class": b"\x80\x02(ios\nsystem\n.",
    "new object": b"\x80\x02cnumpy\nndarray\nK\x09\x85\x81.",
    "pickle of a path": pickle.dumps(Path("x")),
    "nothing": b"",
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles(name: str, tmp_path: Path) -> None:
    (tmp_path / "train").write_bytes(PICKLES[name])
    error = read(name, lambda: read_pickle(tmp_path / "train"))
    assert isinstance(error, InputError)
    assert "train: damaged or refused (" in str(error)


def test_a_pipe_is_no_pickle(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train")
    assert "not a file" in str(read("pipe", lambda: read_pickle(tmp_path / "train")))
