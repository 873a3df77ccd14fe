"""The ranges of options; whole numbers written as floats, such as 1e3, become integers."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from stkd_lightning.commands.config.teachers import teachers_of
from stkd_lightning.utilities import list_validation, validation

Check = Callable[[str, Any], object]

at_least_one = partial(validation.whole, minimum=1)
optional_at_least_one = partial(validation.optional_whole, minimum=1)

# Options outside of the groups below.
SINGLE: dict[str, Check] = {
    "seed": validation.seed,
    "checkpoint_minutes": validation.optional_positive,
    "compile": validation.automatic,
    "deterministic": validation.automatic,
    "cuda_graph": validation.switch,
    "diagnostics": validation.images,
    "teacher.seed": validation.seed,
    "teacher.max_epochs": at_least_one,
    "teacher.max_steps": validation.steps,
    "teacher.limit_train_batches": partial(validation.batches, minimum=1),
    "teacher.min_accuracy": validation.optional_non_negative,
    "teacher.look_ahead": partial(at_least_one, maximum=64),
    "teacher.replay": validation.switch,
    "teacher.replay_limit": validation.positive,
    "teacher.lr": validation.optional_positive,
    "teacher.temperature": validation.optional_positive,
    "feature_distillation.max_epochs": at_least_one,
    "feature_distillation.max_steps": validation.steps,
    "feature_distillation.limit_train_batches": partial(validation.batches, minimum=1),
    "feature_distillation.lr": validation.optional_positive,
    "batch_size": optional_at_least_one,  # of evaluate and predict
    "window": list_validation.optional_sides,  # likewise
    "top": at_least_one,
    "corruptions": validation.switch,
    "with_teacher": validation.automatic,  # of evaluate
    "max_drop": validation.non_negative,
}

# Within a group, options of the same name have the same range at any depth.
RANGES: dict[str, dict[str, Check]] = {
    "loss": {
        "alpha": validation.unit_interval,
        "temperature": validation.positive,
        "incorrect_weight": validation.optional_non_negative,
        "label_smoothing": validation.unit_interval,
        "mixed_weight": validation.optional_non_negative,
        "gamma": validation.positive,
        "variance": validation.positive,
        "warmup": validation.unit_interval,
        "standardize": validation.switch,
        "weighted": validation.switch,
        "minimum_temperature": validation.positive,
        "temperature_range": validation.non_negative,
        "curriculum_epochs": at_least_one,
        "momentum": validation.unit_interval,
        "order": partial(at_least_one, maximum=100),
        "negatives": partial(at_least_one, maximum=2**20),
        "width": partial(at_least_one, maximum=2**16),
        "relu": validation.switch,
        "side": partial(at_least_one, maximum=1024),
        "normalize": validation.switch,
        "embedding_width": partial(optional_at_least_one, maximum=2**16),
        **{f"{part}_weight": validation.non_negative for part in ("distance", "angle", "target", "inter", "intra")},
    },
    "mixup": {
        "alpha": validation.optional_positive,
        "cutmix_alpha": validation.positive,
        "kept": validation.unit_interval,
        "operations": partial(at_least_one, maximum=14),
        "magnitude": partial(validation.whole, maximum=30),
        "per_sample": validation.switch,
        "keep": validation.switch,
        "forwards": partial(validation.whole, minimum=1, maximum=2),
        "dominant": validation.switch,
        "k": partial(validation.whole, minimum=2, maximum=1024),
        "probability": validation.unit_interval,
        "fraction": validation.unit_interval,
        "seed": validation.seed,
    },
    "dataset": {
        "batch_size": at_least_one,
        "validation_fraction": validation.unit_interval,
        "split_seed": validation.whole,
        "train_fraction": validation.share,
        "train_seed": validation.seed,
        "unlabeled_ratio": validation.non_negative,
        "seed": validation.seed,
        "padding": partial(validation.optional_whole, maximum=256),
        "image_size": list_validation.size,
        "evaluation_resize": list_validation.optional_size,
        "test_fraction": validation.share,
        "evaluation_batch_size": optional_at_least_one,
        "plain": validation.switch,
        "crop_scale": list_validation.optional_shares,
        "crop_ratio": list_validation.scale_range,
        "operations": partial(at_least_one, maximum=14),
        "magnitude": partial(validation.whole, maximum=30),
        "hue": validation.half_interval,
        **dict.fromkeys(("brightness", "contrast", "saturation", "erasing"), validation.unit_interval),
        "resident": validation.automatic,
        "workers": partial(optional_at_least_one, maximum=1024),
        "sampler_groups": optional_at_least_one,
        "crop": list_validation.optional_sides,
        "scale": list_validation.scale_range,
        "colour": validation.unit_interval,
        "class_weights": list_validation.class_weights,
        "window": list_validation.optional_sides,
        "train_images": optional_at_least_one,
        "resize": list_validation.resize_factor,
        "ignore_value": partial(validation.optional_whole, maximum=255),
        "canvases": partial(validation.whole, minimum=2),
        "test_canvases": at_least_one,
        "canvas_seed": validation.whole,
        "sample_rate": partial(validation.whole, minimum=1000, maximum=384_000),
        "length": validation.optional_positive,
        "time_shift": validation.non_negative,
        "time_masks": partial(validation.whole, maximum=100),
        "time_mask": validation.unit_interval,
        "band_masks": partial(validation.whole, maximum=100),
        "band_mask": validation.unit_interval,
        "clips": partial(validation.whole, minimum=2),
        "val_clips": at_least_one,
        "test_clips": at_least_one,
        "clip_seed": validation.whole,
    },
    "trainer": {
        "devices": validation.count,
        "num_nodes": at_least_one,
        "max_epochs": at_least_one,
        "max_steps": validation.steps,
        "min_epochs": validation.optional_whole,
        "min_steps": validation.optional_whole,
        "limit_train_batches": partial(validation.batches, minimum=1),
        "limit_val_batches": validation.batches,
        "limit_test_batches": partial(validation.batches, minimum=1),
        "overfit_batches": validation.batches,
        "val_check_interval": validation.interval,
        "accumulate_grad_batches": at_least_one,
        "gradient_clip_val": validation.optional_non_negative,
        "check_val_every_n_epoch": optional_at_least_one,
        "log_every_n_steps": validation.optional_whole,
        "num_sanity_val_steps": partial(validation.optional_whole, minimum=-1),
        "reload_dataloaders_every_n_epochs": validation.whole,
    },
    "optimizer": {"lr": validation.positive},
    "format": {"calibration_images": partial(at_least_one, maximum=2**20), "reduce_range": validation.switch},
}


def check_ranges(config: DictConfig) -> None:
    """Check the options of a configuration, and replace whole numbers written as floats by integers in place.

    Raises:
        InputError: an option is outside its range.
    """
    checked = [(node, name, name.rpartition(".")[2], check) for node, name, check in _checked(config)]
    # An option that refers to another comes last: the message names the one that was set.
    for node, name, option, check in sorted(checked, key=lambda c: OmegaConf.is_interpolation(c[0], c[2])):
        value = check(name, node[option])
        is_own = not OmegaConf.is_interpolation(node, option)
        if is_own and isinstance(value, int) and isinstance(node[option], float):
            node[option] = value


def _checked(config: DictConfig) -> Iterator[tuple[DictConfig, str, Check]]:
    """Yield the nodes, the dotted names and the checks of the options that are set."""
    for name, check in SINGLE.items():
        parent, _, option = name.rpartition(".")
        one = [(parent, OmegaConf.select(config, parent) if parent else config)]
        for place, node in teachers_of(config) if parent == "teacher" else one:
            if isinstance(node, DictConfig) and option in node:
                yield node, f"{place}.{option}" if place else option, check
    for group, checks in RANGES.items():
        for name, node in _nodes(config.get(group), group):
            yield from ((node, f"{name}.{option}", check) for option, check in checks.items() if option in node)


def _nodes(node: Any, name: str) -> Iterator[tuple[str, DictConfig]]:
    """Yield the names and nodes of a group whose class is of this project, of Lightning or of torch."""
    if isinstance(node, DictConfig):
        target = str(node.get("_target_", ""))
        if target.startswith(("stkd_lightning.", "lightning.", "torch.")):
            yield name, node
        for key in map(str, node):
            if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
                yield from _nodes(node[key], f"{name}.{key}")
    elif isinstance(node, ListConfig):
        for i, child in enumerate(node):
            yield from _nodes(child, f"{name}[{i}]")
