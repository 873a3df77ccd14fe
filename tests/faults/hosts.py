"""Two hosts with addresses of their own, on one machine: network namespaces, joined by a cable."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ADDRESSES = ("10.213.77.1", "10.213.77.2")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Hosts:
    """Runs torchrun on both hosts, which share their files.

    The hosts share a name, too, by which torchrun cannot tell which of them it is on; so it is told.

    Args:
        names: of the namespaces.
        cwd: where commands run.
    """

    def __init__(self, names: tuple[str, str], cwd: Path) -> None:
        self.names, self.cwd = names, cwd
        self._runs = 0

    def start(self, *arguments: str) -> "list[subprocess.Popen[str]]":
        """Start a training of two ranks, one on each host."""
        self._runs += 1
        logs = [self.cwd / f"host-{self._runs}-{name}" for name in "ab"]
        first, _ = ADDRESSES
        return [
            subprocess.Popen(
                ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run", "--nnodes=2",
                 "--nproc_per_node=1", "--rdzv_backend=c10d", f"--rdzv_endpoint={first}:29500",
                 f"--rdzv_conf=is_host={int(address == first)}", f"--rdzv_id={self._runs}", f"--local_addr={address}",
                 "-m", "stkd_lightning.train", *arguments],
                cwd=self.cwd,
                # There is no name server on these hosts, which the libraries would wait for.
                env={**os.environ, "PATH": PATH, "GLOO_SOCKET_IFNAME": name, "RES_OPTIONS": "timeout:1 attempts:1"},
                stdout=log.with_suffix(".out").open("w"),
                stderr=log.with_suffix(".err").open("w"),
                text=True,
            )
            for name, address, log in zip(self.names, ADDRESSES, logs, strict=True)
        ]  # fmt: skip

    def words(self) -> str:
        """Return what both hosts said in the last run."""
        return "\n".join(p.read_text() for p in sorted(self.cwd.glob(f"host-{self._runs}-?.*")))

    def lose(self, host: int) -> None:
        """Kill all that runs on a host, at once."""
        for pid in _ip("netns", "pids", self.names[host], check=False).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _ip(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["ip", *arguments], env={**os.environ, "PATH": PATH}, check=check, capture_output=True, text=True
    )


@contextmanager
def two_hosts(cwd: Path) -> Iterator[Hosts]:
    """Make the hosts; whatever happens, end what runs on them and remove them."""
    if shutil.which("ip", path=PATH) is None:
        pytest.skip("two hosts were NOT tested: there is no ip command")
    names = (f"stkd{os.getpid()}a", f"stkd{os.getpid()}b")  # of the ends of the cable, too: at most 15 characters
    hosts = Hosts(names, cwd)
    try:
        try:
            for name in names:
                _ip("netns", "add", name)
            _ip("link", "add", names[0], "netns", names[0], "type", "veth", "peer", names[1], "netns", names[1])
            for name, address in zip(names, ADDRESSES, strict=True):
                _ip("-n", name, "address", "add", f"{address}/24", "dev", name)
                for device in ("lo", name):
                    _ip("-n", name, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"two hosts were NOT tested: network namespaces are not allowed here: {error.stderr.strip()}")
        yield hosts
    finally:
        for host, name in enumerate(names):
            hosts.lose(host)
            _ip("netns", "delete", name, check=False)
