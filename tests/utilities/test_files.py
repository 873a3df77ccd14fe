import json
import subprocess
import sys
from pathlib import Path

from stkd_lightning.utilities.paths import remembered

WRITE = """
import sys
from pathlib import Path
from stkd_lightning.utilities.files import write_json
for i in range(200):
    write_json(Path(sys.argv[1]), i)
"""


def test_two_processes_may_write_one_file(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path / "a.json")]) for _ in range(2)]
    assert [w.wait(60) for w in writers] == [0, 0]
    assert json.loads((tmp_path / "a.json").read_text()) == 199
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_number_is_computed_once(tmp_path: Path) -> None:
    numbers = iter([0.25, 0.5])
    assert [remembered(tmp_path / "x" / "n.json", lambda: next(numbers)) for _ in range(2)] == [0.25, 0.25]
