"""Time that Lightning and the callbacks add to a step, with networks without cost, on one thread.

    python benchmarks/framework.py

Three loops with the same batches, mixing and loss take turns: Lightning with progress bar, log and schedule; the least
of Lightning; a loop without Lightning. About one minute on 2 cores.
Writes benchmarks/results/framework_<device>.json.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import contestants
import machine
from pacing import Contestant

RESULTS = Path(__file__).parent / "results"
LOOPS = ("ours", "lightning", "bare")


def measure(folder: Path, rounds: int, steps: int) -> dict[str, float]:
    """Return the milliseconds per step of each loop, the median over the rounds."""
    field = {n: Contestant(contestants.trivial, {"folder": folder / n, "framework": n}, threads=1) for n in LOOPS}
    times: dict[str, list[float]] = {name: [] for name in LOOPS}
    for one in field.values():
        one.steps(min(100, steps))
    for _ in range(rounds):
        for name, one in field.items():
            times[name].append(1000 * one.steps(steps)["seconds"] / steps)
    for one in field.values():
        one.stop()
    ours, lightning, bare = (statistics.median(times[name]) for name in LOOPS)
    return {
        "ours_ms": ours,
        "lightning_ms": lightning,
        "bare_ms": bare,
        "framework_ms": ours - bare,
        "of_which_lightning_ms": lightning - bare,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output", type=Path, default=RESULTS / f"framework_{machine.device().type}.json")
    options = parser.parse_args()
    busy = machine.alone()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.rounds, options.steps)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({**result, "busy_percent": busy, **machine.facts()}, indent=1) + "\n")
    print(", ".join(f"{name} {value:.2f}" for name, value in result.items()))
    print(options.output)


if __name__ == "__main__":
    main()
