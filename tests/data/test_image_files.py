import os
from collections import Counter
from pathlib import Path

import pytest

from stkd_lightning.data.image_files import images_below, kinds_of
from stkd_lightning.utilities.errors import InputError


def made(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_images_below_are_sorted_and_the_rest_counted(tmp_path: Path) -> None:
    made(tmp_path, "b/x.PNG", "a.jpg", "b/y.tga", "b/notes.txt", "b/.DS_Store", ".cache/z.png", "README", "c.HEIC")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    found = images_below(tmp_path)
    assert found.images == [tmp_path / name for name in ("a.jpg", "b/x.PNG", "b/y.tga")]
    left_out = {".txt": 1, ".heic": 1, "hidden": 2, "without ending": 1, "no regular file": 2}
    assert found.left_out == left_out


def test_images_below_follow_links_once(tmp_path: Path) -> None:
    made(tmp_path, "folder/a/x.png", "other/y.png")
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "other")
    for i in range(8):  # without a guard: 8 links in each of the folders behind them, and so on
        (tmp_path / "folder" / f"up{i}").symlink_to(tmp_path / "folder")
        (tmp_path / "other" / f"back{i}").symlink_to(tmp_path / "folder")
    folder = tmp_path / "folder"
    assert images_below(folder).images == [folder / "a" / "x.png", folder / "link" / "y.png"]


def test_images_below_name_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"folder {tmp_path}/gone: cannot be read \(No such file"):
        images_below(tmp_path / "gone")


def test_many_kinds_are_summed_up() -> None:
    kinds = Counter({f".{i}": 10 - i for i in range(8)})
    assert kinds_of(kinds) == ".0 10, .1 9, .2 8, .3 7, .4 6, others 12"
