"""Which options say what comes out of a run, and which only where, how visibly or how fast it runs."""

from collections.abc import Iterator
from typing import Any

# Options of the trainer that say where or how visibly it runs.
INCIDENTAL = {"accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "default_root_dir", "plugins",
              "logger", "callbacks", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps"}  # fmt: skip
# Options of the data that say where they are found; their digest stands for them. Their seed is the run's.
DATA_LOCATION_OPTIONS = {"data_dir", "cache_dir", "download", "url", "md5", "seed"}
# Options of the data that say how batches are made, not what is in them.
LOADING_OPTIONS = {"resident", "workers"}
# All such options of a run, with those that say what it is compared with.
NON_RESULT_OPTIONS = {
    "baseline", "cache_dir", "checkpoint_minutes", "method", "resume", "run_dir", "teacher.checkpoint",
    "teacher.min_accuracy", "teacher.replay", "teacher.replay_limit",
    *(f"dataset.{option}" for option in (DATA_LOCATION_OPTIONS | LOADING_OPTIONS) - {"seed"}),
    *(f"trainer.{option}" for option in INCIDENTAL),
}  # fmt: skip
NON_RESULT_GROUPS = ("callbacks.progress_bar.", "logger.", "pair.")
SEEDS = {"seed", "dataset.seed", "mixup.seed"}  # that follow the run's


def flat(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options of nested containers by their dotted names; an empty container is a value."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, node


def shaping(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run's configuration that shape what comes out, by their dotted names."""
    return {k: v for k, v in flat(config) if k not in NON_RESULT_OPTIONS and not k.startswith(NON_RESULT_GROUPS)}
