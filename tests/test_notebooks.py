"""The notebooks run as they are; their saved outputs are small and do not name a machine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LIMIT = 150_000  # bytes
# Parts of a machine's paths: home and temporary folders, environments, drives.
PATHS = re.compile(r"/(home|root|tmp|Users|usr|opt|mnt|work|var|private)/|site-packages|\b[A-Z]:\\\\")


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A writable copy of the notebooks' folder."""
    return Path(shutil.copytree(FOLDER, tmp_path_factory.mktemp("project") / "notebooks"))


def execute(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, str(folder / "execute.py"), *names]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=600)


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) == 7


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_as_it_stands(path: Path, copies: Path) -> None:
    done = execute(copies, path.stem)
    assert done.returncode == 0, done.stderr
    before, after = nbformat.read(path, 4), nbformat.read(copies / path.name, 4)
    assert [cell.source for cell in after.cells] == [cell.source for cell in before.cells]
    assert [kinds(cell) for cell in after.cells] == [kinds(cell) for cell in before.cells]


def kinds(cell: nbformat.NotebookNode) -> list[tuple[str, ...]]:
    """Return the kinds of a cell's outputs, without warnings; text printed in several pieces counts once."""
    shown = (tuple(o.get("data", {"printed": ""})) for o in cell.get("outputs", []) if o.get("name") != "stderr")
    return sorted(set(shown))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept(path: Path) -> None:
    assert path.stat().st_size < LIMIT
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert 5 <= len(notebook.cells) <= 14
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in notebook.cells:
        assert not cell.metadata
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs
    for output in outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        text = output.get("text", output.get("data", {}).get("text/plain", ""))
        assert not PATHS.search(text), text
        assert "it/s" not in text
        assert "arning" not in text


def test_a_cell_that_fails(copies: Path) -> None:
    """The command names the notebook and the error, and does not change the notebook."""
    path = copies / "broken.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    done = execute(copies, "broken")
    path_after = path.read_bytes()
    path.unlink()
    assert done.returncode == 1
    assert "error: broken.ipynb" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert path_after == before


def test_an_unknown_name(copies: Path) -> None:
    done = execute(copies, "01_quickstar")
    assert done.returncode == 2
    assert "notebook '01_quickstar': unknown; did you mean 01_quickstart" in done.stderr
