"""Examples in docstrings run; the built pages have all public names, valid links, a search, and fetch nothing."""

import ast
import doctest
import importlib
import json
import pkgutil
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
from playwright.sync_api import Error, sync_playwright

import stkd_lightning

ROOT = Path(__file__).parents[1]
PACKAGE = Path(stkd_lightning.__file__).parent
MODULES = ["stkd_lightning"] + [m.name for m in pkgutil.walk_packages([str(PACKAGE)], "stkd_lightning.")]


def source(module: str) -> str:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


PUBLIC = {
    f"stkd_lightning{part}": set(importlib.import_module(f"stkd_lightning{part}").__all__)
    for part in ("", ".losses", ".models", ".data", ".teacher", ".callbacks", ".tasks")
} | {"stkd_lightning.schedules": {"Cosine", "MultiStep"}, "stkd_lightning.reporting.statistics": {"Spread"}}
WITH_EXAMPLES = [module for module in MODULES if ">>>" in source(module)]
SHOWN = {  # names that a user meets first must have an example
    "data.datasets.digits.DigitsDataModule", "losses.cross_entropy.mixed_cross_entropy", "losses.kd.KDLoss",
    "losses.kd.softened_kl", "losses.sp.similarity_preserving", "losses.stkd.STKDLoss",
    "losses.stkd.similarity_transfer", "losses.weighted_sum.WeightedSum", "distillation.mixup.Mixup",
    "models.create_model", "models.list_models", "distillation.module.DistillationModule", "tasks.types.MixedTarget",
    "tasks.types.ModelOutput",
    "reporting.statistics.Spread", "schedules.Cosine", "schedules.MultiStep", "teacher.frozen.FrozenTeacher",
    "models.weights.load_weights",
}  # fmt: skip


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_run_as_they_stand(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each example alone, without the imports of its module."""
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module), globs={})
    found = {test.name.removeprefix("stkd_lightning.") for test in examples if test.examples}
    assert found >= {name for name in SHOWN if f"stkd_lightning.{name.rpartition('.')[0]}" == module}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    for test in examples:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)


def test_examples_exist_for_first_names() -> None:
    assert {f"stkd_lightning.{name.rpartition('.')[0]}" for name in SHOWN} <= set(WITH_EXAMPLES)


class Html(HTMLParser):
    """Links, fetched files and anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif "src" in given or (tag == "link" and "href" in given):
            self.fetched.append(given.get("src") or given["href"])


def build(project: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(project / "docs" / "build.py"), str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages") / "out"
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out / 'index.html'}: {len(list(out.rglob('*.html')))} pages\n"
    return out


@pytest.fixture(scope="module")
def parsed(pages: Path) -> dict[str, Html]:
    return {path.relative_to(pages).as_posix(): Html(path.read_text()) for path in pages.rglob("*.html")}


def test_every_public_name_has_an_entry(parsed: dict[str, Html]) -> None:
    public = 0
    for name in MODULES:
        if "__all__" not in source(name):
            continue
        page = parsed[name.replace(".", "/") + ".html"]
        missing = set(importlib.import_module(name).__all__) - page.anchors
        assert not missing, name
        public += 1
    assert public >= 5


def test_docstring_sections_are_rendered(pages: Path) -> None:
    losses = (pages / "stkd_lightning" / "losses.html").read_text()
    start = losses.index('<section id="similarity_transfer">')
    entry = losses[start : losses.index("</section>", start)]
    for section in ("Arguments", "Returns", "Raises", "Example"):
        assert f">{section}:</h6>" in entry
    assert '<span class="gp">&gt;&gt;&gt; </span>' in entry
    assert "<strong>temperature:</strong>" in entry
    assert ">Attributes:</h6>" in (pages / "stkd_lightning.html").read_text()
    for name in ("Args:", "Raises:\n", "Returns:\n"):  # a section that the parser misses keeps its source
        assert not any(f"<p>{name}" in path.read_text() for path in pages.rglob("*.html"))


def test_links_and_pictures(pages: Path, parsed: dict[str, Html]) -> None:
    """Every link leads to an existing file and anchor or to another site; every page links the start page."""
    for name, page in parsed.items():
        starts = False
        for reference in page.links + page.fetched:
            if re.match(r"(https?|mailto|data):", reference):
                continue
            address, anchor = urldefrag(unquote(reference))
            target = (pages / name).parent.joinpath(address).resolve() if address else pages / name
            assert target.is_file(), f"{name}: {reference}"
            starts = starts or target == (pages / "index.html").resolve()
            if anchor:
                assert anchor in parsed[target.relative_to(pages.resolve()).as_posix()].anchors, f"{name}: {reference}"
        assert starts, name


def test_nothing_is_fetched_from_elsewhere(pages: Path, parsed: dict[str, Html]) -> None:
    for name, page in parsed.items():
        assert not [fetched for fetched in page.fetched if re.match(r"(https?:)?//", fetched)], name
        assert not re.search(r"""url\(["']?(https?:)?//|@import|fetch\(["']http""", (pages / name).read_text()), name


def test_the_start_page_is_the_readme(pages: Path, parsed: dict[str, Html]) -> None:
    text = (pages / "index.html").read_text().replace("&amp;", "&")
    readme = (ROOT / "README.md").read_text()
    for heading in re.findall(r"^##+ (.+)$", re.sub(r"```.*?```", "", readme, flags=re.DOTALL), re.MULTILINE):
        assert re.search(rf"<h[2-6][^>]*>{re.escape(heading)}</h", text), heading
    assert "docs/stkd.svg" in parsed["index.html"].fetched
    assert len(re.findall("<table>", text)) >= 3
    assert "data:image/png;base64," in (pages / "notebooks" / "02_virtual_samples.html").read_text()


def test_every_page_is_in_the_navigation_of_every_page(pages: Path, parsed: dict[str, Html]) -> None:
    texts = [path.relative_to(ROOT).with_suffix(".html").as_posix() for path in (ROOT / "docs").glob("*.md")]
    texts += [f"notebooks/{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")]
    expected = {"index.html", "CONTRIBUTING.html", "CHANGELOG.html", "stkd_lightning.html", *texts}
    assert len(expected) >= 22
    for name, page in parsed.items():
        targets = {(pages / name).parent.joinpath(urldefrag(unquote(link))[0]).resolve() for link in page.links}
        assert {(pages / target).resolve() for target in expected} <= targets, name


def search_entries(pages: Path) -> list[dict[str, str]]:
    """Return what the search box finds; with Node.js the index is built before it is written."""
    script = (pages / "search.js").read_text()
    index, _ = json.JSONDecoder().raw_decode(script, re.search(r"const docs = ", script).end())
    return index if isinstance(index, list) else list(index["documentStore"]["docs"].values())


def test_search_covers_pages_and_modules(pages: Path, parsed: dict[str, Html]) -> None:
    entries = search_entries(pages)
    for entry in entries:
        address = entry["modulename"].replace(".", "/") + ".html"
        assert address in parsed
        assert entry.get("qualname", "") in parsed[address].anchors
    modules = {entry["modulename"] for entry in entries}
    assert {name.removesuffix(".html") for name in parsed} <= {name.replace(".", "/") for name in modules}
    (found,) = [entry for entry in entries if entry["modulename"] == "docs/security" and "unpickler" in entry["doc"]]
    assert found["qualname"] == "untrusted-files"


def test_search_in_a_browser(pages: Path) -> None:
    system = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        except Error:
            pytest.skip("no Chromium is here: the search box was not tried")
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.route("http*://**", lambda route: pytest.fail(f"{route.request.url} is fetched"))
        for start in ("docs/methods.html", "stkd_lightning/losses.html"):
            page.goto((pages / start).as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            page.click("#navtoggle")
            page.fill("input[type=search]", "unpickler")
            page.locator(".search-result > a").first.click()
            assert page.url == (pages / "docs" / "security.html").as_uri() + "#untrusted-files"
        browser.close()


def imports(code: str) -> list[tuple[str, str]]:
    """Return what code imports from the package, as modules and names."""
    lines = [line for line in code.splitlines() if not line.startswith(("%", "!"))]
    nodes = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.ImportFrom)]
    return [(n.module or "", alias.name) for n in nodes if "stkd_lightning" in (n.module or "") for alias in n.names]


def test_texts_import_public_names() -> None:
    codes = [cell.source for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
             for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]  # fmt: skip
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        codes += re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    found = {pair for code in codes for pair in imports(code)}
    assert len(found) >= 20
    added = ("stkd_lightning.losses.logits",)  # the example of CONTRIBUTING
    for module, name in found:
        if module in added:
            continue
        assert module in PUBLIC, f"{module} is imported"
        assert name in PUBLIC[module], f"{module}.{name} is imported"


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "README.md").write_text("# Name\n\n[there](docs/build.py), [not there](docs/nothing.md)\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode == 1
    assert "error: README.md: link to docs/nothing.md: no such file in the project" in done.stderr
