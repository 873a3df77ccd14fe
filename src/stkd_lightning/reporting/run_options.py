"""Options that change the result of a run, and options that do not."""

import re
from collections.abc import Iterator
from typing import Any

# Options of the trainer that set where a run takes place and what it displays.
INCIDENTAL = {"accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "default_root_dir", "plugins",
              "logger", "callbacks", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps"}  # fmt: skip
# Options of the data that set where they are, how they are stored and what of them is left out; a digest identifies the
# data. The seed is that of the run.
DATA_LOCATION_OPTIONS = {"data_dir", "cache_dir", "download", "url", "md5", "seed", "on_error", "storage",
                         "evaluation_resize", "test_fraction", "unlabeled_dir"}  # fmt: skip
# Options of the data that set how batches are loaded, not what they contain.
LOADING_OPTIONS = {"resident", "workers", "evaluation_batch_size"}
# All options of a run that do not change its result, including those that set its comparison.
NON_RESULT_OPTIONS = {
    "baseline", "cache_dir", "checkpoint_minutes", "diagnostics", "method", "resume", "run_dir",
    "teacher.checkpoint", "teacher.checkpoint_key", "teacher.min_accuracy", "teacher.replay", "teacher.replay_limit",
    "teacher.run", "teacher.trust", "student.checkpoint", "distilled.student.checkpoint",
    *(f"dataset.{option}" for option in (DATA_LOCATION_OPTIONS | LOADING_OPTIONS) - {"seed"}),
    *(f"trainer.{option}" for option in INCIDENTAL),
}  # fmt: skip
NON_RESULT_GROUPS = ("callbacks.progress_bar.", "logger.", "pair.")
# Options that earlier versions did not have, and their defaults: a run with these is the same run.
LATER_OPTIONS: dict[str, Any] = {
    "teacher.max_steps": -1, "teacher.limit_train_batches": None, "teacher.look_ahead": 1, "deterministic": "auto",
    "cuda_graph": False, "teacher.dataset": None, "feature_distillation": None, "pretraining": None,
    **{f"{student}.{option}": None for student in ("student", "distilled.student")
       for option in ("checkpoint_key", "checkpoint_digest")},
    "distilled.image_size": None, "loss.losses.fitnet.relu": False,
    **{f"{loss}.standardize": False for loss in ("loss", "loss.losses.kd", "loss.losses.stkd", "loss.losses.dkd")},
    "dataset.unlabeled_ratio": 0.0, "dataset.augment": None, "dataset.labels": None, "dataset.classes": None,
    "mixup.keep": False, "mixup.forwards": 1,
    "mixup.partner": "any",
    "mixup.dominant": False, "mixup.weights": None,
    **{f"{loss}.mixed_weight": None for loss in ("loss", "loss.losses.stkd")},
    **{f"{loss}.label_smoothing": 0.0 for loss in ("loss", "loss.losses.ce")},
}  # fmt: skip
MEMBER = re.compile(r"^teacher(\.members\.[^.]+)+\.")  # of an ensemble: its options are those of a teacher
ROUNDING = {"compile", "cuda_graph", "deterministic"}  # change the rounding only; such runs are still compared
SEEDS = {"seed", "dataset.seed", "dataset.train_seed", "mixup.seed"}  # the others follow the first
OWN_SEEDS = {"dataset.train_seed"}  # those that are settings of their own where they are given


def data_options(dataset: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the data that change the samples of a training, besides its seed, for cache keys."""
    others = DATA_LOCATION_OPTIONS | LOADING_OPTIONS | _unused_share(dataset)
    others |= {option for option in ("augment", "unlabeled_ratio") if not dataset.get(option)}  # as in earlier versions
    return {k: v for k, v in dataset.items() if k not in others}


def _unused_share(options: dict[str, Any], prefix: str = "") -> set[str]:
    """Return the options of the share to train on, where all is trained on, as in earlier versions."""
    whole = options.get(f"{prefix}train_fraction", 1) == 1
    return {f"{prefix}train_fraction", f"{prefix}train_seed"} if whole else set()


def flat(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options of nested containers with their dotted names; an empty container is a value."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, node


def result_options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run's configuration that change its result, by dotted name."""
    options = dict(flat(config))
    unused = _unused_share(options, "dataset.")
    return {
        k: v
        for k, v in options.items()
        if k not in unused
        and MEMBER.sub("teacher.", k) not in NON_RESULT_OPTIONS
        and not k.startswith(NON_RESULT_GROUPS)
        and not (k in LATER_OPTIONS and LATER_OPTIONS[k] == v)
    }
