"""What tests of damaged and hostile files share."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.conftest import cifar100_folder, cinic10_folder, tiny_imagenet_folder

__all__ = ["cifar100_folder", "cinic10_folder", "tiny_imagenet_folder"]

MEMORY = 1 << 30  # bytes that refusing a file may take


@pytest.fixture
def in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have what is executed leave a file in the test's folder, and what unpacks without end be seen."""
    monkeypatch.chdir(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY >> 10
    assert not list(tmp_path.rglob("executed"))
