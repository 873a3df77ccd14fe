"""Downloads against a real HTTP server on this machine that breaks, resumes and lies as real ones do."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stkd_lightning.data import CIFAR100DataModule, CINIC10DataModule, TinyImageNetDataModule
from stkd_lightning.data.archives.download import Archive, fetch, md5_of
from stkd_lightning.data.archives.extract import Limits, extract
from stkd_lightning.utilities.errors import InputError
from tests.data.conftest import pack_tar, pack_zip


class Server(ThreadingHTTPServer):
    """Serves one body; ``cut`` ends the first ``cuts`` answers after so many bytes; ``ranges``: it can continue."""

    body = b""
    cut: int | None = None
    cuts = 0
    ranges = True
    status = 200
    endless = False  # sends without saying how much
    requests: list[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append(asked)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        if start >= len(server.body) and asked:
            self.send_error(416)
            return
        self.send_response(206 if asked and server.ranges else 200)
        if not server.endless:
            self.send_header("Content-Length", str(len(server.body) - start))
        self.end_headers()
        end = len(server.body)
        if server.cut and server.cuts > 0:
            server.cuts -= 1
            end = start + server.cut
        with suppress(ConnectionError):
            self.wfile.write(server.body[start:end])
            while server.endless:
                self.wfile.write(server.body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(("127.0.0.1", 0), Handler)
    running.requests = []
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()


def archive_of(server: Server, body: bytes, md5: str | None = None) -> Archive:
    server.body = body
    return Archive(f"{server.url}/a.tar.gz", md5 or hashlib.md5(body).hexdigest(), "a")


BODY = bytes(range(256)) * 4000


def test_an_interrupted_download_is_continued(server: Server, tmp_path: Path) -> None:
    server.cut, server.cuts = 300_000, 2
    path = fetch(archive_of(server, BODY), tmp_path, pause=0)
    assert path.read_bytes() == BODY
    assert server.requests == [None, "bytes=300000-", "bytes=600000-"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz"]


def test_a_part_of_an_earlier_run_is_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz.part").write_bytes(BODY[:1000])
    assert fetch(archive_of(server, BODY), tmp_path, pause=0).read_bytes() == BODY
    assert server.requests == ["bytes=1000-"]


def test_a_whole_part_is_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz.part").write_bytes(BODY)
    assert fetch(archive_of(server, BODY), tmp_path, pause=0).read_bytes() == BODY


def test_a_server_that_cannot_continue_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "a.tar.gz.part").write_bytes(b"something else")
    assert fetch(archive_of(server, BODY), tmp_path, pause=0).read_bytes() == BODY


def test_another_checksum_is_refused_and_nothing_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"broken download, md5 {hashlib.md5(BODY).hexdigest()} instead of 0+"):
        fetch(archive_of(server, BODY, md5="0" * 32), tmp_path, pause=0)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_is_there_is_verified_and_not_downloaded(server: Server, tmp_path: Path) -> None:
    archive = archive_of(server, BODY)
    (tmp_path / "a.tar.gz").write_bytes(BODY)
    fetch(archive, tmp_path)
    assert server.requests == []
    (tmp_path / "a.tar.gz").write_bytes(BODY[:-1])
    with pytest.raises(InputError, match=r"archive .*a.tar.gz: broken, md5 .*; delete it and run again"):
        fetch(archive, tmp_path)


def test_a_server_that_fails_gets_the_command_to_do_it_by_hand(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(
        InputError, match=r"failed \(Not Found\); get it with: mkdir -p .* && curl -L -o .*a.tar.gz .* && tar"
    ):
        fetch(archive_of(server, BODY), tmp_path, pause=0)
    assert len(server.requests) == 1
    server.status = 503
    with pytest.raises(InputError, match="Service Unavailable"):
        fetch(archive_of(server, BODY), tmp_path, pause=0)
    assert len(server.requests) == 6


def tar_with(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        fine = tarfile.TarInfo("a/fine.txt")
        fine.size = 2
        tar.addfile(fine, io.BytesIO(b"ok"))
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        member.size = 4 if kind == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(b"evil") if kind == tarfile.REGTYPE else None)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        tar_with("../evil.txt"),
        tar_with("/stkd-evil.txt"),
        tar_with("a/../../evil.txt"),
        tar_with("a/link", tarfile.SYMTYPE, "/etc/passwd"),
        tar_with("a/hard", tarfile.LNKTYPE, "../../x"),
        tar_with("a/device", tarfile.CHRTYPE),
    ],
    ids=["parent", "absolute", "dots inside", "symlink", "hard link", "device"],
)
def test_members_that_escape_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar.gz").write_bytes(content)
    with pytest.raises(InputError, match="refused, its member .* does not stay in its folder"):
        extract(tmp_path / "in" / "a.tar.gz", tmp_path / "in" / "a")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.tar.gz", "in"]


def test_zip_members_that_escape_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.writestr("a/fine.txt", "ok")
        z.writestr("../evil.txt", "evil")
    with pytest.raises(InputError, match="refused, its member"):
        extract(tmp_path / "a.zip", tmp_path / "a")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("keep", [0.5, 0.99, 0.0])
def test_a_broken_archive_leaves_nothing(keep: float, cifar100_folder: Path, tmp_path: Path) -> None:
    archive = pack_tar(cifar100_folder, tmp_path / "cifar-100-python.tar.gz")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(InputError, match="archive .*: broken"):
        extract(archive, tmp_path / "cifar-100-python")
    assert not (tmp_path / "cifar-100-python").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_cifar100_from_its_archive(server: Server, cifar100_folder: Path, tmp_path: Path) -> None:
    archive = pack_tar(cifar100_folder, tmp_path / "cifar-100-python.tar.gz")
    server.body = archive.read_bytes()
    url, md5 = f"{server.url}/cifar-100-python.tar.gz", md5_of(archive)
    data = CIFAR100DataModule(tmp_path / "data", url=url, md5=md5, cache_dir=tmp_path / "cache", batch_size=4)
    data.prepare_data()
    assert data.class_names == ("a", "b", "c", "d")
    assert data.arrays.splits["test"].images.shape == (12, 3, 32, 32)
    CIFAR100DataModule(tmp_path / "data", url=url, md5=md5, cache_dir=tmp_path / "other").prepare_data()
    assert len(server.requests) == 1  # what is there is used


def test_cinic10_from_its_archive_without_a_top_folder(server: Server, cinic10_folder: Path, tmp_path: Path) -> None:
    archive = pack_tar(cinic10_folder, tmp_path / "CINIC-10.tar.gz", top=False)
    server.body = archive.read_bytes()
    data = CINIC10DataModule(
        tmp_path / "data", url=f"{server.url}/CINIC-10.tar.gz", md5=md5_of(archive), cache_dir=tmp_path / "cache"
    )
    data.prepare_data()
    assert {s: len(v.labels) for s, v in data.arrays.splits.items()} == {"train": 6, "val": 4, "test": 2}


def test_tiny_imagenet_from_its_archive(server: Server, tiny_imagenet_folder: Path, tmp_path: Path) -> None:
    archive = pack_zip(tiny_imagenet_folder, tmp_path / "tiny-imagenet-200.zip")
    server.body = archive.read_bytes()
    data = TinyImageNetDataModule(
        tmp_path / "data", url=f"{server.url}/tiny-imagenet-200.zip", md5=md5_of(archive), cache_dir=tmp_path / "cache"
    )
    data.prepare_data()
    assert data.class_names == ("goldfish", "n02")
    assert data.arrays.splits["test"].labels.tolist() == [1, 0, 1, 0]


def test_missing_data_may_not_be_downloaded(tmp_path: Path) -> None:
    data = CIFAR100DataModule(tmp_path, download=False, cache_dir=tmp_path / "cache")
    with pytest.raises(InputError, match=r"dataset cifar100: .*cifar-100-python is missing; get it with: mkdir -p"):
        data.prepare_data()


def test_a_download_without_end_is_stopped(server: Server, tmp_path: Path) -> None:
    archive = replace(archive_of(server, BODY), limits=Limits(size=len(BODY) - 1))
    with pytest.raises(InputError, match=r"a.tar.gz: refused, it has more than 1,023,999 bytes; set dataset.url"):
        fetch(archive, tmp_path, pause=0)
    server.endless = True
    with pytest.raises(InputError, match="more than 1,023,999 bytes"):
        fetch(archive, tmp_path, pause=0)
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "url", ["nowhere/a.tar.gz", "http://[::1/a.tar.gz", "http://localhost:x/a.tar.gz", "http://é /a"]
)
def test_what_is_no_address(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a is not in .* and .* failed .*; get it with: mkdir -p"):
        fetch(Archive(url, None, "a"), tmp_path, pause=0)


@pytest.mark.parametrize("url", ["http://localhost/", "http://localhost/.."])
def test_an_address_without_a_file(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not end with the name of an archive"):
        fetch(Archive(url, None, "a"), tmp_path)


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    """As one that ends with a checkpoint."""
    with zipfile.ZipFile(tmp_path / "weights.pt", "w") as inner:
        inner.writestr("data.pkl", b"weights")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "weights.pt", "a/weights.pt")
    extract(tmp_path / "a.tar", tmp_path / "a")
    assert (tmp_path / "a" / "weights.pt").read_bytes() == (tmp_path / "weights.pt").read_bytes()
