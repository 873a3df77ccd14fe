"""Pages of text: Markdown files and notebooks as HTML, their relative links pointing at what is built."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pdoc.render import env
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import write_text

ROOT = Path(__file__).parents[1]
START = "README.md"


@dataclass(frozen=True)
class Page:
    """A Markdown file or a notebook of the project.

    Attributes:
        path: the file.
    """

    path: Path

    @property
    def source(self) -> str:
        """Its path in the project."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def address(self) -> str:
        """Where its page stands among the pages."""
        return "index.html" if self.source == START else str(Path(self.source).with_suffix(".html"))

    @cached_property
    def tokens(self) -> list[Token]:
        """Its text, read."""
        text = self.path.read_text(encoding="utf-8")
        tokens = _reader().parse(_of_notebook(text) if self.path.suffix == ".ipynb" else text)
        for heading, content in pairwise(tokens):
            if heading.type == "heading_open":
                heading.attrSet("id", _anchor(content.content))
        return tokens

    @property
    def title(self) -> str:
        """Its first heading."""
        headings = pairwise(self.tokens)
        return next(after.content for before, after in headings if before.type == "heading_open")


def _reader() -> MarkdownIt:
    return MarkdownIt("commonmark", {"highlight": _highlighted}).enable("table")


def _highlighted(code: str, language: str, _: str) -> str:
    try:
        lexer = get_lexer_by_name(language or "text")
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    return f'<pre class="pdoc-code codehilite">{highlight(code, lexer, HtmlFormatter(nowrap=True))}</pre>'


def _anchor(heading: str) -> str:
    """Return a heading's anchor as repository hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def _of_notebook(text: str) -> str:
    """Return a notebook as Markdown: code, what it printed, and its pictures."""
    parts = []
    for cell in nbformat.reads(text, as_version=4).cells:
        parts.append(cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                parts.append(f"![](data:image/png;base64,{data['image/png'].strip()})")
            elif shown := output.get("text", data.get("text/plain")):
                parts.append(f"````\n{shown.rstrip()}\n````")
    return "\n\n".join(parts)


def _links(tokens: Iterable[Token]) -> Iterable[tuple[Token, str, str]]:
    """Yield each token that refers to a file of the project, its attribute, and the reference."""
    for token in tokens:
        yield from _links(token.children or [])
        for name in ("href", "src"):
            value = token.attrs.get(name)
            if isinstance(value, str) and not re.match(r"[a-z]+:|#", value):
                yield token, name, value


def linked_files(pages: list[Page]) -> list[str]:
    """Return the files, by their path in the project, that pages refer to and that are no pages themselves.

    Raises:
        InputError: one that is not there.
    """
    known = {page.source for page in pages}
    found = {_target(page, value) for page in pages for _, _, value in _links(page.tokens)}
    return sorted(found - known - {page.address for page in pages})


def _target(page: Page, reference: str) -> str:
    """Return the path in the project that a page's reference leads to."""
    path = Path(os.path.normpath(page.path.parent / reference.partition("#")[0]))
    if not path.is_file() or not path.is_relative_to(ROOT):
        raise InputError(f"{page.source}: link to {reference}: no such file in the project")
    return path.relative_to(ROOT).as_posix()


def render(page: Page, pages: list[Page]) -> str:
    """Return a page as HTML, links to other pages' sources leading to the pages."""
    addresses = {other.source: other.address for other in pages}
    for token, name, value in list(_links(page.tokens)):
        target = _target(page, value)
        address = os.path.relpath(addresses.get(target, target), Path(page.address).parent)
        token.attrSet(name, Path(address).as_posix() + "".join(value.partition("#")[1:]))
    body = _reader().renderer.render(page.tokens, _reader().options, {})
    return env.get_template("page.html.jinja2").render(title=page.title, body=body, address=page.address)


def address_of(module: str) -> str:
    """Return where a module's page stands among the pages."""
    return module.replace(".", "/") + ".html"


def navigation(here: str, pages: list[Page], groups: dict[str, list[str]]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the links of every page: groups of names and addresses relative to the page at ``here``."""

    def entry(name: str, address: str) -> tuple[str, str]:
        return name, Path(os.path.relpath(address, Path(here).parent)).as_posix()

    texts = [entry(p.title, p.address) for p in pages if p.path.suffix == ".md"]
    notebooks = [entry(p.title, p.address) for p in pages if p.path.suffix == ".ipynb"]
    modules = [(g, [entry(m, address_of(m)) for m in names]) for g, names in groups.items()]
    return [("Read", texts), *([("Notebooks", notebooks)] if notebooks else []), *modules]


def write(path: Path, text: str) -> None:
    """Write a page, making its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
