"""Run the notebooks and save their outputs: python notebooks/execute.py [NAME ...]

Each notebook runs in an empty folder with an empty cache. A notebook that fails is not changed.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from stkd_lightning.utilities.errors import unknown
from stkd_lightning.utilities.files import write_text

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
TIMEOUT = 600  # seconds per cell
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # colour codes of a terminal


def execute(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of a new run.

    Raises:
        CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        # "!python" must be this interpreter, even if its environment is not active.
        search = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        environment = {**os.environ, "STKD_CACHE": f"{folder}/cache", "PATH": search}
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=ERROR"],  # hide connection messages
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        client.execute(env=environment)
    # The Python version must not change the notebook.
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def main() -> None:
    """Run the notebooks named on the command line, or all."""
    known = {path.stem: path for path in sorted(HERE.glob("*.ipynb"))}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)}; none: all")
    names = parser.parse_args().names or list(known)
    for name in names:
        if name not in known:
            parser.error(str(unknown("notebook", name, known)))
    for name in names:
        start = time.perf_counter()
        try:
            notebook = execute(known[name])
        except CellExecutionError as error:
            sys.exit(f"error: {known[name].name}: {COLOUR.sub('', str(error))}")
        write_text(known[name], nbformat.writes(notebook) + "\n")
        print(f"{known[name].name}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
