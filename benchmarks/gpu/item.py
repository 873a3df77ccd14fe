"""Items of the queue and their records."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Result = dict[str, Any]


def never() -> bool:
    """Return false: only the record tells whether an item is done."""
    return False


@dataclass(frozen=True)
class Item:
    """A piece of work that writes one record.

    Attributes:
        stage: name of its stage.
        name: name within the stage, also of the file of its record.
        seconds: expected duration; of a resumable item the shortest time that is worth a start.
        run: does the work and returns the result; it is called in a process of its own.
        resumable: it may be cut at the end of the budget; the next call resumes it.
        already: returns true if its result exists without a record of the queue.
        needs: returns why the item cannot start, or an empty string.
    """

    stage: str
    name: str
    seconds: float
    run: Callable[[], Result]
    resumable: bool = False
    already: Callable[[], bool] = never
    needs: Callable[[], str] = str

    @property
    def title(self) -> str:
        """Stage and name."""
        return f"{self.stage}/{self.name}"

    def record(self, results: Path) -> Path:
        """Return the file of the record, below the folder of results."""
        return results / "gpu" / self.stage / f"{self.name}.json"

    def done(self, results: Path) -> bool:
        """Return true if the item has a record without an error whose checks passed, or a result elsewhere."""
        path = self.record(results)
        content: Result = json.loads(path.read_text()) if path.is_file() else {"error": "missing"}
        return self.already() or ("error" not in content and content["result"].get("passed", True))
