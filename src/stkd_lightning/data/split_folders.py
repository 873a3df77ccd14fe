"""The split folders of a user's own data."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from stkd_lightning.data.image_files import walk


def split_folders(root: Path, names: Mapping[str, str]) -> dict[str, Path]:
    """Return the folders of the splits, without a validation folder that is missing or is the test folder.

    Args:
        root: folder of the splits.
        names: of the folders, by ``train``, ``val`` and ``test``.
    """
    folders = {split: root / name for split, name in names.items()}
    if names["val"] == names["test"] or not folders["val"].is_dir():
        del folders["val"]
    return folders


def visible_paths(folders: Iterable[Path]) -> list[Path]:
    """Return all folders and files below some folders that are not hidden, because a user may replace a file."""
    paths: list[Path] = []
    for folder in folders:
        for parent, names in walk(folder):
            paths += [parent, *(parent / name for name in names if not name.startswith("."))]
    return sorted(path for path in paths if path.exists())  # a link may be broken
