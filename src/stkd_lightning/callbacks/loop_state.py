"""Corrections of Lightning's loop state in checkpoints, for an exact resume.

A checkpoint is written inside a hook, when only some of the loops' counters were increased. Lightning guesses the
position from their differences, and then skips a validation, an epoch or a logged step.
"""

from typing import Any


def between_batches(fit_loop: dict[str, Any]) -> None:
    """Correct a state that was taken at the start of a batch: exactly the batches before it are completed."""
    for progress in (fit_loop["epoch_loop.batch_progress"][span] for span in ("total", "current")):
        progress.update(ready=progress["completed"], started=progress["completed"], processed=progress["completed"])


def at_epoch_end(fit_loop: dict[str, Any]) -> None:
    """Correct a state that was taken at the end of an epoch: it is completed, and the next epoch has not started."""
    for progress in (fit_loop["epoch_progress"][span] for span in ("total", "current")):
        progress.update(dict.fromkeys(("ready", "started", "completed"), progress["processed"]))
    fit_loop["epoch_loop.batch_progress"]["current"] = dict.fromkeys(("ready", "started", "processed", "completed"), 0)
    fit_loop["epoch_loop.batch_progress"]["is_last_batch"] = False
    fit_loop["state_dict"].pop("combined_loader", None)
