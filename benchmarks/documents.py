"""Write the generated tables of the README and of the pages in docs/.

    python benchmarks/documents.py

A table stands between ``<!-- throughput_cpu_64 -->`` and ``<!-- end -->``. The first word names the benchmark whose
``block`` makes the table from its results; the rest names the results.
"""

import re
from importlib import import_module
from pathlib import Path

from stkd_lightning.utilities.files import write_text

ROOT = Path(__file__).parents[1]
# A block without an end is left alone.
BLOCK = re.compile(r"(<!-- (\w+) -->\n)((?:(?!<!-- ).)*)(?=<!-- end -->)", re.DOTALL)


def documents() -> list[Path]:
    """Return the files that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document: Path) -> dict[str, str]:
    """Return the tables of a document as they stand there, by name."""
    return {found[2]: found[3] for found in BLOCK.finditer(document.read_text(encoding="utf-8"))}


def content(name: str) -> str:
    """Return a table as its results have it now, for example ``throughput_cpu_64``."""
    benchmark, _, results = name.partition("_")
    text: str = import_module(benchmark).block(results)
    return f"{text}\n"


def write(benchmark: str = "") -> None:
    """Write the tables of one benchmark, or all tables, into the documents."""
    for document in documents():
        before = document.read_text(encoding="utf-8")
        after = BLOCK.sub(
            lambda found: found[1] + (content(found[2]) if found[2].startswith(benchmark) else found[3]), before
        )
        if after != before:
            write_text(document, after)


if __name__ == "__main__":
    write()
