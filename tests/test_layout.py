"""The package's layout: its folders, and imports that only run down."""

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "stkd_lightning"
FOLDERS = {
    "callbacks", "commands", "data", "distillation", "inference", "losses", "models", "reporting", "tasks", "teacher",
    "utilities",
}  # fmt: skip
FILES = {
    "__init__.py", "py.typed", "schedules.py", "train.py", "evaluate.py", "predict.py", "export.py", "report.py",
    "cache.py",
}  # fmt: skip


def test_root_holds_folders_and_commands_only() -> None:
    found = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert found == FOLDERS | FILES


def test_import_contract_holds() -> None:
    program = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kept, 0 broken" in done.stdout


def test_modules_import_in_no_circle() -> None:
    graph = grimp.build_graph("stkd_lightning", exclude_type_checking_imports=True)
    order = TopologicalSorter({m: graph.find_modules_directly_imported_by(m) for m in graph.modules})
    assert len(list(order.static_order())) == len(graph.modules)  # raises CycleError where there is a circle
