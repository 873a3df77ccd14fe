"""Files made to leave their folder, to fill memory or disk, or to be taken for weights."""

import io
import os
import socket
import struct
import tarfile
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from stkd_lightning.data.archives.extract import Limits, extract
from stkd_lightning.data.datasets.tiny_imagenet import TinyImageNetDataModule
from stkd_lightning.data.decode import UnreadableImageError, decode
from stkd_lightning.data.image_files import images_below
from stkd_lightning.data.image_reading import decode_all
from stkd_lightning.models.weights import load_weights, read_checkpoint
from stkd_lightning.utilities.errors import InputError
from tests.data.conftest import pack_tar
from tests.faults.mutations import read, tree

pytestmark = pytest.mark.usefixtures("in_its_folder")


# --- archives


def tar_of(*members: tuple[str, dict[str, Any], bytes], mode: str = "w:gz", form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as tar:  # type: ignore[call-overload]
        for name, facts, content in (("a/fine.txt", {}, b"ok"), *members):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in facts.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(*members: tuple[str, int, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as z:
        for name, attributes, content in (("a/fine.txt", 0, b"ok"), *members):
            member = zipfile.ZipInfo(name)
            member.external_attr, member.compress_type = attributes << 16, method
            z.writestr(member, content)
    return buffer.getvalue()


def header(size: int, kind: bytes = tarfile.REGTYPE, name: str = "a/claims") -> bytes:
    """Return a tar header that claims a size."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def gzipped(*blocks: bytes, zeros: int = 0) -> bytes:
    """Return compressed blocks, with so many MiB of zeros after them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    empty = bytes(1 << 20)
    return b"".join([*map(packer.compress, blocks), *(packer.compress(empty) for _ in range(zeros)), packer.flush()])


def encrypted() -> bytes:
    plain = bytearray(zip_of(("a/secret", 0, b"x" * 50)))
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        plain[plain.rindex(magic) + flags] |= 1
    return bytes(plain)


def negative_size() -> bytes:
    """Return a tar whose second header leads back to itself."""
    member = bytearray(header(0))
    member[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024
    member[148:156] = b" " * 8
    member[148:156] = b"%06o\0 " % sum(member)
    return header(0, name="a/1") + bytes(member) + bytes(10240)


ARCHIVES = {
    "parent": tar_of(("../evil", {}, b"x")),
    "absolute": tar_of(("/stkd-evil", {}, b"x")),
    "dots inside": tar_of(("a/b/../../../evil", {}, b"x")),
    "symlink": tar_of(("a/l", {"type": tarfile.SYMTYPE, "linkname": "/"}, b""), ("a/l/evil", {}, b"x")),
    "hard link": tar_of(("a/h", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, b"")),
    "character device": tar_of(("a/d", {"type": tarfile.CHRTYPE}, b"")),
    "block device": tar_of(("a/d", {"type": tarfile.BLKTYPE}, b"")),
    "pipe": tar_of(("a/p", {"type": tarfile.FIFOTYPE}, b"")),
    "sparse": tar_of(("a/s", {"type": tarfile.GNUTYPE_SPARSE}, b"x"), form=tarfile.GNU_FORMAT),
    "file and folder": tar_of(("a/x", {}, b"1"), ("a/x/y", {}, b"2")),
    "long name": tar_of(("a/" + "x" * 5000, {}, b"1")),
    "name with a line break": tar_of(("../a\nb", {}, b"1")),
    "zip parent": zip_of(("../evil", 0, b"x")),
    "zip absolute": zip_of(("/stkd-evil", 0, b"x")),
    "zip symlink": zip_of(("a/l", 0o120777, b"/etc/passwd")),
    "zip device": zip_of(("a/d", 0o020666, b"")),
    "zip encrypted": encrypted(),
    "zip bzip2": zip_of(("a/x", 0, bytes(1 << 24)), method=zipfile.ZIP_BZIP2),
    "zip lzma": zip_of(("a/x", 0, bytes(1 << 24)), method=zipfile.ZIP_LZMA),
    "zip bomb": zip_of(("a/x", 0, bytes(1 << 24)), method=zipfile.ZIP_DEFLATED),
    "empty zip": b"PK\x05\x06" + bytes(18),
    "bomb": gzipped(header(1 << 40), zeros=200),
    "name bomb": gzipped(header(1 << 33, tarfile.GNUTYPE_LONGNAME), zeros=200),
    "header bomb": gzipped(header(1 << 33, tarfile.XHDTYPE), zeros=200),
    "zeros": gzipped(zeros=50),
    "claims a terabyte": gzipped(header(1 << 40), b"x" * 1000),
    "leads back": negative_size(),
    "no end": tar_of(("a/x", {}, b"1" * 512), mode="w:")[: 4 * 512],
    "headers without end": gzipped(header(512, tarfile.XHDTYPE) * 5000),
    "many members": tar_of(*((f"a/{i}", {}, b"") for i in range(300))),
    "empty": b"",
    "only zeros": bytes(10240),
    "noise after gzip's head": b"\x1f\x8b\x08\x00" + bytes(range(256)),
    "noise after xz's head": b"\xfd7zXZ\x00" + bytes(range(256)),
    "noise after bzip2's head": b"BZh9" + bytes(range(256)),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "archive").write_bytes(ARCHIVES[name])
    limits = Limits(members=200, size=10 << 20)
    error = read(name, lambda: extract(folder / "archive", folder / "a", limits))
    assert isinstance(error, InputError)
    assert str(error).startswith(f"archive {folder / 'archive'}: ")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["in", "in/archive"]
    assert not Path("/stkd-evil").exists()


def test_limits_count_what_is_written(cifar100_folder: Path, tmp_path: Path) -> None:
    archive = pack_tar(cifar100_folder, tmp_path / "c.tar.gz")
    size = sum(len(content or b"") for content in tree(cifar100_folder).values())
    extract(archive, tmp_path / "c" / cifar100_folder.name, Limits(members=4, size=size))
    assert tree(tmp_path / "c" / cifar100_folder.name) == tree(cifar100_folder)
    with pytest.raises(InputError, match=f"refused, it contains more than {size - 1:,} bytes; delete it"):
        extract(archive, tmp_path / "more", Limits(size=size - 1))
    with pytest.raises(InputError, match="refused, more than 3 members; delete it"):
        extract(archive, tmp_path / "more", Limits(members=3))
    assert not (tmp_path / "more").exists()


# --- images and text


def png(width: int, height: int) -> bytes:
    """Return a PNG that claims a size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    facts = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", facts) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def many_scans(*, hidden: bytes = b"") -> bytes:
    """Return a small JPEG whose last scan comes 1,500 times more."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 128).save(buffer, "JPEG", progressive=True)
    plain = buffer.getvalue()
    last, end = plain.rindex(b"\xff\xda"), plain.rindex(b"\xff\xd9")
    return plain[:last] + hidden + plain[last:end] * 1501 + plain[end:]


IMAGES = {
    "many scans": many_scans(),
    "many scans behind a mark without length": many_scans(hidden=b"\xff\x01\xff\xff"),
    "bomb": png(10_000, 9_000),
    "larger bomb": png(100_000, 100_000),
    "no height": png(10, 0),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(executed) (w) file\n",
    "text of a PPM": b"P3 10 10 255 " + b"9" * 10_000,
    "huge PPM": b"P6 99999 99999 255 ",
    "empty": b"",
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(name: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(IMAGES[name])
    assert isinstance(read(name, lambda: decode(path, 8)), InputError)
    errors: dict[int, UnreadableImageError] = {}
    assert read(name, lambda: list(decode_all([path], partial(decode, size=8), 1, "images", errors))) == []
    error = errors[0]
    assert str(error).startswith(f"image {path}: cannot be read (")
    assert [w for w in recwarn if "bomb" in str(w.message)][1:] == []  # decode_all adds none


def test_jpeg_of_many_scans_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(many_scans())
    with pytest.raises(InputError, match=r"a.jpg: cannot be read \(a JPEG of more than 100 scans; save it again\)"):
        decode(tmp_path / "a.jpg", 8)


def test_jpeg_scans_in_thumbnails_do_not_count(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 128).save(buffer, "JPEG", progressive=True, comment=b"\xff\xda" * 200)
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue() + many_scans())
    assert (decode(tmp_path / "a.jpg", 8) == 128).all()


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
def test_images_are_regular_files_only(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("a.png")  # a path is limited to 107 bytes
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(InputError, match=r"a.png: cannot be read \(not a regular file\)"):
        decode(path, 8)
    assert images_below(tmp_path).images == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("val/val_annotations.txt", b"\xff\xfe\x00"),
        ("val/val_annotations.txt", b""),
        ("val/val_annotations.txt", b"val_0.JPEG\n"),
        ("val/val_annotations.txt", b"../../train/n01/images/n01_0.JPEG\tn01\n"),
        ("val/val_annotations.txt", b"/etc/passwd\tn01\n"),
        ("val/val_annotations.txt", b"nope.JPEG\tn01\n"),
        ("val/val_annotations.txt", b"val\0_0.JPEG\tn01\n"),
        ("words.txt", b"n01\t\xe9\n"),
    ],
)
def test_texts(name: str, content: bytes, tiny_imagenet_folder: Path, tmp_path: Path) -> None:
    (tiny_imagenet_folder / name).write_bytes(content)
    data = TinyImageNetDataModule(tiny_imagenet_folder.parent, cache_dir=tmp_path / "cache")
    assert isinstance(read(f"{name}: {content!r}", lambda: data.arrays), InputError)
    assert not [p for p in (tmp_path / "cache" / "data").iterdir() if p.is_dir()]


# --- checkpoints


def test_a_checkpoint_that_unpacks_to_more_than_itself(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 22)}, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as plain,
        zipfile.ZipFile(tmp_path / "z.pth", "w", zipfile.ZIP_DEFLATED) as z,
    ):
        for name in plain.namelist():
            z.writestr(name, plain.read(name))
    assert "its content is compressed" in str(read("bomb", lambda: read_checkpoint(tmp_path / "z.pth")))


WEIGHT = torch.ones(2, 3)
TENSORS = {
    "sparse": (WEIGHT.to_sparse, "is not a plain tensor but torch.sparse_coo"),
    "compressed": (WEIGHT.to_sparse_csr, "is not a plain tensor but torch.sparse_csr"),
    "meta": (lambda: WEIGHT.to("meta"), "is not a plain tensor but a Tensor of torch.float32 on meta"),
    "complex": (lambda: WEIGHT.to(torch.complex64), "holds torch.complex64 where torch.float32 is needed"),
    "whole": (lambda: WEIGHT.to(torch.int8), "holds torch.int8 where torch.float32 is needed"),
    "logical": (lambda: WEIGHT > 0, "holds torch.bool where torch.float32 is needed"),
    "not a number": (lambda: WEIGHT * float("nan"), "holds values that are not finite"),
    "too large for its type": (lambda: WEIGHT.double() * 1e300, "holds values that are not finite"),
    "huge without memory": (lambda: torch.ones(1).expand(10**9, 10**6), "other shapes weight (1000000000, 1000000)"),
    "scalar": (lambda: torch.tensor(1.0), "other shapes weight () instead of (2, 3)"),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.filterwarnings("ignore:Sparse", "ignore:Validating sparse")
def test_tensors_that_are_no_weights(name: str, tmp_path: Path) -> None:
    tensor, words = TENSORS[name]
    network = torch.nn.Linear(3, 2)
    before = network.bias.clone()
    torch.save({"bias": torch.zeros(2), "weight": tensor()}, tmp_path / "w.pth")
    assert words in str(read(name, lambda: load_weights(network, tmp_path / "w.pth")))
    assert torch.equal(network.bias, before)


@pytest.mark.parametrize(
    "content",
    [
        {"weight": WEIGHT, "bias": torch.ones(2), 1: torch.ones(1), (2, "x"): WEIGHT, None: 3},
        {"weight": WEIGHT.half(), "bias": torch.ones(2).bfloat16()},
        {"weight": WEIGHT.double(), "bias": torch.nn.Parameter(torch.ones(2))},
        {"state_dict": [1, 2], "model": {"module.weight": WEIGHT, "module.bias": torch.ones(2)}},
    ],
)
def test_odd_checkpoints_that_fit(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    network = torch.nn.Linear(3, 2)
    load_weights(network, tmp_path / "w.pth")
    assert torch.equal(network.weight, WEIGHT)


@pytest.mark.parametrize(
    "content",
    [
        None,
        3,
        [WEIGHT],
        {},
        {"state_dict": {}},
        {"module." * 5000 + "weight": WEIGHT},
        {"a\nb" * 10**5: WEIGHT},
        WEIGHT,
    ],
    ids=range(8),
)
def test_odd_checkpoints_that_do_not(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    assert isinstance(read("", lambda: load_weights(torch.nn.Linear(3, 2), tmp_path / "w.pth")), InputError)
