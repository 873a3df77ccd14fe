"""Write the project's pages: python docs/build.py OUT

The start page is the README; beside it are CONTRIBUTING, CHANGELOG, the notebooks, and a page for each public module,
rendered from its docstrings. Nothing in them is fetched from elsewhere.
"""

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

from pages import ROOT, Page, address_of, linked_files, navigation, render, write
from pdoc.doc import Module
from pdoc.render import configure, env, html_module, search_index

import stkd_lightning
from stkd_lightning.utilities.errors import InputError

# The public modules in the order in which somebody meets them; others that declare ``__all__`` follow by themselves.
GROUPS = {
    "Train": ["stkd_lightning", "stkd_lightning.teacher", "stkd_lightning.schedules", "stkd_lightning.callbacks"],
    "Objectives": ["stkd_lightning.losses", "stkd_lightning.losses.stkd", "stkd_lightning.losses.feature_loss"],
    "Networks": ["stkd_lightning.models", "stkd_lightning.models.cifar.zoo", "stkd_lightning.models.weights"],
    "Data": ["stkd_lightning.data"],
    "Measure": ["stkd_lightning.tasks", "stkd_lightning.reporting.statistics"],
    "Mistakes and faults": ["stkd_lightning.utilities.errors"],
}
TEXTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def public() -> list[str]:
    """Return the names of all modules that declare what is public, and have their lazy names loaded."""
    found = []
    for info in [None, *pkgutil.walk_packages(stkd_lightning.__path__, "stkd_lightning.")]:
        module = importlib.import_module(info.name) if info else stkd_lightning
        if hasattr(module, "__all__"):
            found.append(module.__name__)
            for name in module.__all__:
                setattr(module, name, getattr(module, name))
    return found


def grouped() -> dict[str, list[str]]:
    """Return the modules that get a page, in their groups."""
    named = {module for modules in GROUPS.values() for module in modules}
    rest = [module for module in public() if module not in named]
    return {**GROUPS, **({"More": rest} if rest else {})}


def build(out: Path) -> int:
    """Write all pages to a folder and return their number.

    Raises:
        InputError: a link to a file that is not there.
    """
    pages = [Page(ROOT / name) for name in TEXTS if (ROOT / name).is_file()]
    pages += [Page(path) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    files = linked_files(pages)
    groups = grouped()
    modules = [module for group in groups.values() for module in group]
    configure(docformat="google", show_source=False, template_directory=Path(__file__).parent / "templates")
    env.globals["navigation"] = lambda here: navigation(here, pages, groups)
    documented = {name: Module.from_name(name) for name in modules}
    for name, module in documented.items():
        write(out / address_of(name), html_module(module, documented))
    write(out / "search.js", search_index(documented))
    for page in pages:
        write(out / page.address, render(page, pages))
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes((ROOT / name).read_bytes())
    return len(modules) + len(pages)


def main() -> None:
    """Build into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the pages; it is made if need be")
    out: Path = parser.parse_args().out
    try:
        count = build(out)
    except InputError as error:
        sys.exit(f"error: {error}")
    print(f"{out / 'index.html'}: {count} pages")


if __name__ == "__main__":
    main()
