"""Folders that the queue reads and writes."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """Folders of the queue.

    Attributes:
        root: the project's folder, or a folder of the same layout for a trial in miniature.
    """

    root: Path

    @property
    def results(self) -> Path:
        """Folder of results, which git tracks."""
        return self.root / "benchmarks" / "results"

    @property
    def teachers(self) -> Path:
        """Folder of trained teachers, which git tracks."""
        return self.root / "benchmarks" / "teachers"

    @property
    def carried(self) -> Path:
        """Folder to carry, which git ignores: ``1`` for the first call, ``2`` for the second."""
        return self.root / ".gpu"

    @property
    def work(self) -> Path:
        """Folder of runs, caches and data, which git ignores."""
        return self.root / "outputs" / "gpu"

    @property
    def runs(self) -> Path:
        """Folder of the students' runs, whose checkpoints return if they are unfinished."""
        return self.work / "runs"

    @property
    def data(self) -> Path:
        """Folder that holds ``cifar-100-python``: the carried data, else ``$STKD_DATA``."""
        carried = self.work / "data"
        return carried if (carried / "cifar-100-python").is_dir() else Path(os.environ.get("STKD_DATA", "data"))
