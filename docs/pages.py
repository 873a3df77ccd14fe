"""Pages of text: Markdown files and notebooks as HTML, with relative links to the built pages."""

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
class Section:
    """A part of a page under one heading, without its subsections.

    Attributes:
        heading: text of the heading.
        anchor: anchor of the heading in the page.
        text: the section's text and code.
    """

    heading: str
    anchor: str
    text: str


@dataclass(frozen=True)
class Page:
    """A Markdown file or a notebook of the project.

    Attributes:
        path: path of the file.
    """

    path: Path

    @property
    def source(self) -> str:
        """Path of the source in the project."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def address(self) -> str:
        """Path of the HTML file among the pages."""
        return "index.html" if self.source == START else str(Path(self.source).with_suffix(".html"))

    @cached_property
    def tokens(self) -> list[Token]:
        """Parsed text; every heading has an anchor."""
        text = self.path.read_text(encoding="utf-8")
        tokens = _reader().parse(_of_notebook(text) if self.path.suffix == ".ipynb" else text)
        for heading, content in pairwise(tokens):
            if heading.type == "heading_open":
                heading.attrSet("id", _anchor(content.content))
        return tokens

    @property
    def title(self) -> str:
        """First heading."""
        headings = pairwise(self.tokens)
        return next(after.content for before, after in headings if before.type == "heading_open")

    @property
    def sections(self) -> list[Section]:
        """Sections in the order of the page."""
        starts = [i for i, token in enumerate(self.tokens) if token.type == "heading_open"]
        return [
            Section(self.tokens[i + 1].content, str(self.tokens[i].attrGet("id")), _plain(self.tokens[i + 3 : end]))
            for i, end in zip(starts, [*starts[1:], len(self.tokens)], strict=True)
        ]


def _plain(tokens: Iterable[Token]) -> str:
    """Return the words of a text, without markup and pictures."""
    words = []
    for token in tokens:
        if token.type in ("fence", "text", "code_inline", "code_block"):
            words.append(token.content)
        words.append(_plain(token.children or []))
        if token.type in ("inline", "softbreak"):
            words.append(" ")
    return re.sub(r"\s+", " ", "".join(words)).strip()


def _reader() -> MarkdownIt:
    return MarkdownIt("commonmark", {"highlight": _highlighted}).enable("table")


def _highlighted(code: str, language: str, _: str) -> str:
    try:
        lexer = get_lexer_by_name(language or "text")
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    return f'<pre class="pdoc-code codehilite">{highlight(code, lexer, HtmlFormatter(nowrap=True))}</pre>'


def _anchor(heading: str) -> str:
    """Return the anchor of a heading as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def _of_notebook(text: str) -> str:
    """Return a notebook as Markdown: text, code, printed output and pictures."""
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
    """Yield each token that links to a file of the project, with its attribute and the link."""
    for token in tokens:
        yield from _links(token.children or [])
        for name in ("href", "src"):
            value = token.attrs.get(name)
            if isinstance(value, str) and not re.match(r"[a-z]+:|#", value):
                yield token, name, value


def linked_files(pages: list[Page]) -> list[str]:
    """Return the paths in the project of files that pages link to and that are not pages.

    Raises:
        InputError: a link to a missing file.
    """
    known = {page.source for page in pages}
    found = {_target(page, value) for page in pages for _, _, value in _links(page.tokens)}
    return sorted(found - known - {page.address for page in pages})


def _target(page: Page, reference: str) -> str:
    """Return the path in the project that a page's link leads to."""
    path = Path(os.path.normpath(page.path.parent / reference.partition("#")[0]))
    if not path.is_file() or not path.is_relative_to(ROOT):
        raise InputError(f"{page.source}: link to {reference}: no such file in the project")
    return path.relative_to(ROOT).as_posix()


def render(page: Page, pages: list[Page]) -> str:
    """Return a page as HTML; links to the sources of other pages lead to those pages."""
    addresses = {other.source: other.address for other in pages}
    for token, name, value in list(_links(page.tokens)):
        target = _target(page, value)
        address = os.path.relpath(addresses.get(target, target), Path(page.address).parent)
        token.attrSet(name, Path(address).as_posix() + "".join(value.partition("#")[1:]))
    body = _reader().renderer.render(page.tokens, _reader().options, {})
    return env.get_template("page.html.jinja2").render(
        title=page.title,
        body=body,
        address=page.address,
        modulename=page.address.removesuffix(".html").replace("/", "."),
    )


def address_of(module: str) -> str:
    """Return the path of a module's HTML file among the pages."""
    return module.replace(".", "/") + ".html"


Links = dict[str, list[tuple[str, str]]]


def navigation(here: str, groups: Links) -> Links:
    """Return groups of names and addresses with the addresses relative to the page at ``here``."""
    folder = Path(here).parent
    return {
        group: [(name, Path(os.path.relpath(address, folder)).as_posix()) for name, address in entries]
        for group, entries in groups.items()
    }


def write(path: Path, text: str) -> None:
    """Write a page; create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
