"""What the networks of some runs take for an image on this machine."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.markup import escape
from torch import Tensor, nn

from stkd_lightning.inference.student_info import checked
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.models.build import build_network, without_start
from stkd_lightning.reporting.latency import latencies
from stkd_lightning.reporting.run import Latency, Network, Run, network_key
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import reason


def measure(runs: Sequence[Run], *, trust: bool) -> Latency:
    """Measure the students and the teachers of runs side by side, one image at a time, in float32.

    Args:
        runs: finished.
        trust: build classes that are not this project's, as the configurations say.

    Returns:
        Milliseconds by network; one that cannot be built or run here is left out, with a warning.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    by_size: dict[int, dict[str, nn.Module]] = {}
    found: dict[Network, float] = {}
    names: dict[str, Network] = {}
    for network, node, own, run in _networks(runs):
        name = " ".join(map(str, network))
        if name in names:
            continue
        names[name] = network
        try:
            size, built = _built(node, own, run, trust=trust)
            by_size.setdefault(size, {})[name] = built.to(device)
        except Exception as error:  # whatever somebody's configuration leads to
            print_rank_zero(
                f"[yellow]warning: {network[0]}: its time is not measured ({escape(reason(error))})[/yellow]"
            )
    for size, networks in by_size.items():
        seconds = _latencies(networks, torch.zeros(1, 3, size, size, device=device))
        found |= {names[name]: 1000 * value for name, value in seconds.items()}
    return found


def _latencies(networks: dict[str, nn.Module], image: Tensor) -> dict[str, float]:
    try:
        return latencies(networks, image)
    except Exception as error:  # of a device or a network
        print_rank_zero(
            f"[yellow]warning: times for {tuple(image.shape)} are not measured ({escape(reason(error))})[/yellow]"
        )
        return {}


def _networks(runs: Sequence[Run]) -> Iterator[tuple[Network, Any, dict[str, Any], Run]]:
    """Yield each run's student and teacher: its key, its node, and the teacher's options for its input."""
    for run in runs:
        yield network_key(run.summary.student), run.config.get("distilled") or run.config.get("student"), {}, run
        if run.summary.teacher:
            node = run.config.get("teacher", {})
            own = {name: node.get(name) for name in ("input_size", "mean", "std")}
            yield network_key(run.summary.teacher), node.get("network"), own, run


def _built(node: Any, own: dict[str, Any], run: Run, *, trust: bool) -> tuple[int, nn.Module]:
    """Build a network without its weights, on which its time does not depend, and tell its images' side."""
    data = run.summary.data
    told = {"class_names": data.class_names, "mean": data.mean, "std": data.std, "image_size": data.image_size}
    facts = checked({"network": node, "input": {}, "about": {}, **told}, str(run.folder))
    if not trust:
        check_trusted({"network": node}, (run.folder or Path()) / "config.yaml")
    network = build_network(without_start(OmegaConf.create(facts.network)), facts, seed=None, **own)
    return facts.image_size, network.eval()
