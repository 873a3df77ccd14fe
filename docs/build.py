"""Write the project's pages as HTML: python docs/build.py OUT

The README is the start page. The other pages are the Markdown files of docs/, CONTRIBUTING, CHANGELOG, the notebooks,
and one page per public module, made from its docstrings. The pages work offline: nothing is fetched from elsewhere.
"""

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

from pages import ROOT, Links, Page, address_of, linked_files, navigation, render, write
from pdoc.doc import Module
from pdoc.render import configure, env, html_module
from search import search_script

import stkd_lightning
from stkd_lightning.utilities.errors import InputError

# Pages in the order in which a user needs them; other files of docs/ follow under "More pages".
TEXTS = {
    "Start": ["README.md", "docs/commands.md"],
    "Distill": ["docs/methods.md", "docs/mixing.md", "docs/data.md", "docs/teachers.md", "docs/own-loss.md"],
    "Run": ["docs/sweeps-and-tuning.md", "docs/resume-and-devices.md", "docs/performance.md", "docs/dashboards.md"],
    "Use": ["docs/reports.md", "docs/export.md", "docs/security.md"],
    "Project": ["docs/results.md", "CONTRIBUTING.md", "CHANGELOG.md"],
}
# Public modules in the order in which a user meets them; others with ``__all__`` follow under "More modules".
MODULES = {
    "Train": ["stkd_lightning", "stkd_lightning.teacher", "stkd_lightning.schedules", "stkd_lightning.callbacks"],
    "Losses": ["stkd_lightning.losses", "stkd_lightning.losses.stkd", "stkd_lightning.losses.feature_loss"],
    "Networks": ["stkd_lightning.models", "stkd_lightning.models.cifar.zoo", "stkd_lightning.models.weights"],
    "Data and tasks": ["stkd_lightning.data", "stkd_lightning.tasks"],
    "Statistics": ["stkd_lightning.reporting.statistics"],
    "Errors": ["stkd_lightning.utilities.errors"],
}


def public() -> list[str]:
    """Load the lazy names of every module with ``__all__`` and return the modules' names."""
    found = []
    for info in [None, *pkgutil.walk_packages(stkd_lightning.__path__, "stkd_lightning.")]:
        module = importlib.import_module(info.name) if info else stkd_lightning
        if hasattr(module, "__all__"):
            found.append(module.__name__)
            for name in module.__all__:
                setattr(module, name, getattr(module, name))
    return found


def grouped(groups: dict[str, list[str]], known: list[str], rest: str) -> dict[str, list[str]]:
    """Return the groups, and what else is known in a last group."""
    named = {name for names in groups.values() for name in names}
    others = [name for name in known if name not in named]
    return {**groups, **({rest: others} if others else {})}


def texts() -> dict[str, list[Page]]:
    """Return the pages of text in their groups."""
    found = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))]
    groups = grouped(TEXTS, found, "More pages")
    groups["Notebooks"] = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    return {group: [Page(ROOT / name) for name in names if (ROOT / name).is_file()] for group, names in groups.items()}


def build(out: Path) -> int:
    """Write all pages to a folder and return their number.

    Raises:
        InputError: a link to a missing file.
    """
    text_groups = texts()
    pages = [page for group in text_groups.values() for page in group]
    files = linked_files(pages)
    module_groups = grouped(MODULES, public(), "More modules")
    links: Links = {group: [(p.title, p.address) for p in members] for group, members in text_groups.items() if members}
    links |= {group: [(name, address_of(name)) for name in names] for group, names in module_groups.items()}
    configure(docformat="google", show_source=False, template_directory=Path(__file__).parent / "templates")
    env.globals["navigation"] = lambda here: navigation(here, links)
    modules = {name: Module.from_name(name) for names in module_groups.values() for name in names}
    for name, module in modules.items():
        write(out / address_of(name), html_module(module, modules))
    write(out / "search.js", search_script(modules, pages))
    for page in pages:
        write(out / page.address, render(page, pages))
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes((ROOT / name).read_bytes())
    return len(modules) + len(pages)


def main() -> None:
    """Build the pages into the folder given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the pages; it is created if it is missing")
    out: Path = parser.parse_args().out
    try:
        count = build(out)
    except InputError as error:
        sys.exit(f"error: {error}")
    print(f"{out / 'index.html'}: {count} pages")


if __name__ == "__main__":
    main()
