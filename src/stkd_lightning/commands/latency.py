"""Measure the time that networks of runs need for one image on this machine."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stkd_lightning.inference.student_info import checked
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.models.build import build_network
from stkd_lightning.models.start import plain_without_start, without_start
from stkd_lightning.reporting.latency import latencies
from stkd_lightning.reporting.run import Latency, Network, Run, network_key
from stkd_lightning.utilities.console import warn
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.image_size import shape_of, sides
from stkd_lightning.utilities.text import first_and_more

LARGEST = 1024  # pixels of a side; with larger images the rounds take minutes
ROUNDS, FEW_ROUNDS, FEW_VALUES = 30, 5, 3 * 2**17  # fewer rounds for inputs of more values


def measure(runs: Sequence[Run], *, trust: bool) -> Latency:
    """Measure the students and teachers of runs in turn, with one image at a time, in float32.

    Args:
        runs: finished runs.
        trust: also build classes of the configurations that are not part of this project.

    Returns:
        Milliseconds by network, without networks that cannot be built or run here, of which it warns.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    by_shape: dict[tuple[int, ...], dict[str, nn.Module]] = {}
    milliseconds: dict[Network, float] = {}
    names: dict[str, Network] = {}
    missing: dict[str, list[str]] = {}  # names of networks by the reason
    for network, node, options, run in _networks(runs):
        name = " ".join(map(str, network))
        if name in names:
            continue
        names[name] = network
        try:
            shape, module = _build(node, options, run, trust=trust)
            by_shape.setdefault(shape, {})[name] = module.to(device)
        except Exception as error:  # a configuration can raise anything
            missing.setdefault(reason(error).removeprefix(f"{run.folder}: "), []).append(network[0])
    for cause, untimed in missing.items():
        warn(f"{first_and_more(untimed)}: time not measured ({cause})")
    for shape, networks in by_shape.items():
        seconds = _latencies(networks, torch.zeros(1, *shape, device=device))
        milliseconds |= {names[name]: 1000 * value for name, value in seconds.items()}
    return milliseconds


def _latencies(networks: dict[str, nn.Module], image: Tensor) -> dict[str, float]:
    try:
        return latencies(networks, image, rounds=rounds_for(image))
    except Exception as error:  # a device or a network can raise anything
        warn(f"times for inputs {tuple(image.shape)} not measured ({reason(error)})")
        return {}


def rounds_for(inputs: Tensor) -> int:
    """Return the number of rounds in which networks are measured with a batch."""
    return ROUNDS if inputs.numel() <= FEW_VALUES else FEW_ROUNDS


def _networks(runs: Sequence[Run]) -> Iterator[tuple[Network, Any, dict[str, Any], Run]]:
    """Yield key, node, input options and run of each student and teacher."""
    for run in runs:
        yield network_key(run.summary.student), run.config.get("distilled") or run.config.get("student"), {}, run
        node = run.config.get("teacher", {})
        if run.summary.teacher and "members" not in node:  # several networks, each with its own input
            options = {name: node.get(name) for name in ("input_size", "mean", "std")}
            yield network_key(run.summary.teacher), node.get("network"), options, run


def _build(node: Any, options: dict[str, Any], run: Run, *, trust: bool) -> tuple[tuple[int, ...], nn.Module]:
    """Build a network without its weights, which do not affect its time; return the shape of its input, too."""
    data = run.summary.data
    description = {"class_names": data.class_names, "mean": data.mean, "std": data.std, "image_size": data.image_size,
                   "task_name": data.task, "sample_rate": data.sample_rate}  # fmt: skip
    facts = checked({"network": node, "input": {}, "about": {}, **description}, str(run.folder))
    if facts.sample_rate is None and max(sides(facts.image_size)) > LARGEST:
        raise InputError(f"images of {max(sides(facts.image_size))} pixels are too large")
    if not trust:
        check_trusted({"network": plain_without_start(facts.network)}, (run.folder or Path()) / "config.yaml")
    network = build_network(without_start(facts.network), facts, seed=None, any_classes=True, **options)
    return shape_of(len(facts.mean), facts.image_size), network.eval()
