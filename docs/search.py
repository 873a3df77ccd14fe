"""The search index over the pages of text and the public modules; it works offline, in the browser."""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from pages import Page
from pdoc.doc import Doc, Module
from pdoc.render import env
from pdoc.search import make_index, precompile_index

# pdoc weighs names above text. Pages of text come first, and so do results that have all words.
ORDER = """
window.pdocSearch = (search => term => {
    const words = term.toLowerCase().split(/\\s+/);
    const weight = ({doc}) => (doc.kind === "page" ? 4 : 1)
        * words.filter(word => `${doc.fullname} ${doc.doc}`.toLowerCase().includes(word)).length ** 2;
    const scored = search(term).map(found => ({...found, score: found.score * weight(found)}));
    return scored.sort((a, b) => b.score - a.score);
})(window.pdocSearch);
"""


def search_script(modules: Mapping[str, Module], pages: list[Page]) -> str:
    """Return ``search.js``: pdoc's index of the modules, with the sections of the pages."""
    entries = [entry for page in pages for entry in _entries(page)] + make_index(dict(modules), _is_public, "google")
    compiler = env.get_template("build-search-index.js").filename
    assert compiler is not None
    index = env.get_template("search.js.jinja2").render(search_index=precompile_index(entries, Path(compiler)))
    return index + ORDER


def _entries(page: Page) -> Iterator[dict[str, str]]:
    """Yield an entry for each section of a page, with the keys that pdoc's search reads."""
    for section in filter(lambda section: section.text, page.sections):
        name = page.title if section.heading == page.title else f"{page.title}: {section.heading}"
        yield {
            "fullname": escape(name),
            "modulename": page.address.removesuffix(".html"),
            "qualname": section.anchor,
            "kind": "page",
            "doc": f"<p>{escape(section.text)}</p>",
        }


def _is_public(doc: Doc) -> bool:
    return not doc.name.startswith("_") or (doc.name == "__init__" and bool(doc.docstring))
