"""Latency of teachers and students for a batch: in torch, as a torch.export program, and in onnxruntime.

    python benchmarks/latency.py                       # on a GPU if there is one, else on all cores of the CPU
    python benchmarks/latency.py --threads 1

Networks have random weights, which do not affect the latency; images are 32x32 in float32. Teacher, student and all
ways to run them take turns. onnxruntime runs on the CPU. About 2 minutes on 2 cores.
Writes benchmarks/results/latency_<device>.json.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import torch
from torch import Tensor

from stkd_lightning.inference.formats import ONNX, TorchExport
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.models import create_model
from stkd_lightning.reporting.latency import latencies

RESULTS = Path(__file__).parent / "results"
PAIRS = [("resnet32x4", "resnet8x4"), ("resnet56", "resnet20")]
BATCHES = [1, 64]
SIZE, CLASSES = 32, 100
Way = Callable[[Tensor], Tensor]


def ways(name: str, device: torch.device, folder: Path) -> dict[str, Way]:
    """Return the ways to run a built-in network, by name."""
    names = tuple(map(str, range(CLASSES)))
    facts = StudentFacts({}, {}, names, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), SIZE, {"name": name})
    torch.manual_seed(0)
    network = Student(create_model(name, CLASSES), facts)
    folder.mkdir()
    found: dict[str, Way] = {}
    if device.type == "cpu":
        onnx = ONNX()
        onnx.write(network, folder / onnx.file)
        found["onnxruntime"] = onnx.read(folder / onnx.file, facts)
    exported = TorchExport()
    exported.write(network.to(device), folder / exported.file)
    return {"torch": network, "torch.export": exported.read(folder / exported.file, facts), **found}


def of_pair(pair: tuple[str, str], batches: list[int], rounds: int, device: torch.device) -> dict[str, Any]:
    """Return for each way and batch size the milliseconds of teacher and student, and their ratio."""
    print(f"{pair[0]}, {pair[1]}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        made = {one: ways(one, device, Path(name) / one) for one in pair}
    field = {f"{one} {way}": network for one in pair for way, network in made[one].items()}
    results: dict[str, Any] = {way: {} for way in made[pair[0]]}
    for batch in batches:
        images = torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).to(device)
        seconds = latencies(field, images, rounds=rounds)
        for way, of_way in results.items():
            teacher, student = (1000 * seconds[f"{one} {way}"] for one in pair)
            of_way[str(batch)] = {"teacher_ms": teacher, "student_ms": student, "ratio": student / teacher}
    return results


def block(name: str) -> str:
    """Return the table of these results for the documents."""
    return table(json.loads((RESULTS / f"latency_{name}.json").read_text())["pairs"])


def table(pairs: dict[str, dict[str, Any]]) -> str:
    """Lay out the results as Markdown: milliseconds of the teacher, of the student, and their ratio."""
    batches = list(next(iter(next(iter(pairs.values())).values())))
    lines = ["| | | " + " | ".join(f"batch {batch}" for batch in batches) + " |", "|---|---|" + "---:|" * len(batches)]
    for pair, results in pairs.items():
        for way, of_way in results.items():
            cells = [
                f"{of_way[b]['teacher_ms']:.2f} → {of_way[b]['student_ms']:.2f} ms ({of_way[b]['ratio']:.2f})"
                for b in batches
            ]
            lines.append(f"| {pair} | {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=[":".join(p) for p in PAIRS], help="teacher:student")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
    )
    parser.add_argument("--output", type=Path, default=RESULTS / f"latency_{machine.device().type}.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    busy = machine.alone()
    pairs = {}
    for pair in (tuple(p.split(":")) for p in options.pairs):
        pairs[" → ".join(pair)] = of_pair((pair[0], pair[1]), options.batches, options.rounds, machine.device())
    result = {"pairs": pairs, "rounds": options.rounds, "busy_percent": busy, **machine.facts()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(pairs))
    print(options.output)


if __name__ == "__main__":
    main()
