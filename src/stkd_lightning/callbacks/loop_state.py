"""Where a run stands, as Lightning's loops are told when it goes on.

A checkpoint is written inside a hook, when some of the loops' counters have moved on and others have not; Lightning
guesses the place from their differences, and then leaves out a validation, an epoch or a logged step.
"""

from typing import Any


def between_batches(fit_loop: dict[str, Any]) -> None:
    """Have a state that was taken as a batch began say that the batches before it are done and nothing else is."""
    for progress in (fit_loop["epoch_loop.batch_progress"][span] for span in ("total", "current")):
        progress.update(ready=progress["completed"], started=progress["completed"], processed=progress["completed"])


def at_epoch_end(fit_loop: dict[str, Any]) -> None:
    """Have a state that was taken as an epoch ended say that it is done, and the next not begun."""
    for progress in (fit_loop["epoch_progress"][span] for span in ("total", "current")):
        progress.update(dict.fromkeys(("ready", "started", "completed"), progress["processed"]))
    fit_loop["epoch_loop.batch_progress"]["current"] = dict.fromkeys(("ready", "started", "processed", "completed"), 0)
    fit_loop["epoch_loop.batch_progress"]["is_last_batch"] = False
    fit_loop["state_dict"].pop("combined_loader", None)
