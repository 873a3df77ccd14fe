"""NumPy values and paths that other projects save beside weights: read as placeholders; none of their code runs."""

from typing import Any

NUMPY = (
    "dtype",
    "ndarray",
    *(f"{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)
PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
NAMES = [f"numpy.{name}" for name in NUMPY] + [
    f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in PATHS
]


class Placeholder:
    """Stands for a NumPy value or a path, whose content is dropped."""

    def __init__(self, *content: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Drop the rest of the content."""


def placeholders() -> list[tuple[type, str]]:
    """Return the placeholder under each name, for ``torch.serialization.safe_globals``."""
    return [(Placeholder, name) for name in NAMES]
