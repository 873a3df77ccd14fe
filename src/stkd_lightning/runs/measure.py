"""What the networks of some runs take for an image on this machine."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.markup import escape
from torch import Tensor

from stkd_lightning.errors import InputError, reason
from stkd_lightning.latency import latencies
from stkd_lightning.reporting.console import say
from stkd_lightning.reporting.runs import Latency, Network, Run, known
from stkd_lightning.runs.networks import build_network, without_start
from stkd_lightning.student_facts import StudentFacts
from stkd_lightning.trusted import check_trusted


def measure(runs: Sequence[Run], *, trust: bool) -> Latency:
    """Measure the students and the teachers of runs side by side, one image at a time, in float32.

    Args:
        runs: finished.
        trust: build classes that are not this project's, as the configurations say.

    Returns:
        Milliseconds by name and number of parameters; a network that cannot be built is left out, with a warning.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    by_size: dict[int, dict[Network, Callable[[Tensor], Tensor]]] = {}
    for run in runs:
        networks = by_size.setdefault(int(run.summary["data"]["image_size"]), {})
        config = run.config
        nodes = {known(run.summary["student"]): config.get("distilled") or config.get("student")}
        if "teacher" in run.summary:
            nodes[known(run.summary["teacher"])] = config.get("teacher", {}).get("network")
        for network, node in nodes.items():
            if node and network not in networks:
                _add(networks, network, node, run, device, trust=trust)
    found: dict[Network, float] = {}
    for size, networks in by_size.items():
        if networks:
            names = {f"{name} {parameters}": (name, parameters) for name, parameters in networks}
            called = {text: networks[network] for text, network in names.items()}
            seconds = latencies(called, torch.zeros(1, 3, size, size, device=device))
            found |= {names[text]: 1000 * value for text, value in seconds.items()}
    return found


def _add(
    networks: dict[Network, Callable[[Tensor], Tensor]],
    network: Network,
    node: dict[str, Any],
    run: Run,
    device: torch.device,
    *,
    trust: bool,
) -> None:
    """Build a network without its weights, on which its time does not depend."""
    data = run.summary["data"]
    names, mean, std = tuple(data["class_names"]), tuple(data["mean"]), tuple(data["std"])
    facts = StudentFacts(node, {}, names, mean, std, int(data["image_size"]), {})
    try:
        if not trust:
            check_trusted({"network": node}, (run.folder or Path()) / "config.yaml")
        networks[network] = build_network(without_start(OmegaConf.create(node)), facts, seed=None).to(device).eval()
    except (InputError, KeyError, TypeError, ValueError) as error:
        say(f"[yellow]warning: {network[0]}: its time is not measured ({escape(reason(error))})[/yellow]")
