from pathlib import Path

import pytest

from stkd_lightning.data.tag_table import read_tag_table
from stkd_lightning.utilities.errors import InputError


def table(folder: Path, text: str, files: str = "abcd") -> Path:
    for name in files:
        (folder / f"{name}.wav").touch()
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


ROWS = "file,tags,split\na.wav,dog;siren,train\nb.wav,,train\nc.wav, dog ,test\nd.wav,siren,val\n"


def test_table_is_read_split_by_split(tmp_path: Path) -> None:
    read = read_tag_table(table(tmp_path, ROWS))
    assert read.class_names == ["dog", "siren"]
    assert {split: labels.tolist() for split, labels in read.labels.items()} == {
        "train": [[1, 1], [0, 0]], "val": [[0, 1]], "test": [[1, 0]],
    }  # fmt: skip
    assert read.files["test"] == [tmp_path / "c.wav"]


def test_classes_may_be_given_in_their_order(tmp_path: Path) -> None:
    read = read_tag_table(table(tmp_path, ROWS), ["siren", "cat", "dog"])
    assert read.labels["train"].tolist() == [[1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,labels,split\n", "labels.csv: no column tags; needs the columns file,tags,split"),
        (ROWS.replace("dog ,test", "dgo,test"), "labels.csv, line 4: tag 'dgo': unknown; did you mean dog"),
        (ROWS.replace(",test", ",tset"), "labels.csv, line 4: split 'tset': unknown; did you mean test"),
        (ROWS.replace("c.wav", "e.wav"), "labels.csv, line 4: file 'e.wav': missing in"),
        (ROWS.replace("c.wav", "a.wav"), "labels.csv, line 4: file a.wav again, as in line 2"),
        (ROWS.replace("c.wav", "./a.wav"), "labels.csv, line 4: file ./a.wav again, as in line 2"),
        (ROWS.replace(",test", ",val"), "labels.csv: no file of split test"),
        ("file,tags,split\na.wav,,train\nb.wav,,test\n", "labels.csv: no training file has a tag"),
    ],
)
def test_row_that_does_not_fit_is_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        read_tag_table(table(tmp_path, text))


def test_a_tag_that_stands_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dataset.classes: tag 'dog' stands there twice"):
        read_tag_table(table(tmp_path, ROWS), ["dog", "siren", "dog"])
