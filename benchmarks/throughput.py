"""Images per second of the literature's recipe, torchdistill, a plain Lightning module, and this package.

    pip install -e '.[bench]' && python benchmarks/throughput.py

Each training has its process. The trainings take turns, a few steps each, for several rounds; results are medians.
About 10 minutes on 2 cores. Writes benchmarks/results/throughput_<device>_<batch>.json and prints a table.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import contestants
import machine
from pacing import Contestant

from stkd_lightning.commands.training.precision import has_bfloat16
from stkd_lightning.models import create_model
from stkd_lightning.models.cost import flops

RESULTS = Path(__file__).parent / "results"
PAIRS = [("resnet32x4", "resnet8x4"), ("resnet56", "resnet20")]
ROUND_SECONDS = 4.0
BRIEF = ("reference", "plain Lightning", "ours", "ours, replay")


def field(
    pair: tuple[str, str], batch_size: int, folder: Path, only: list[str] | None, *, compile: bool
) -> dict[str, Contestant]:
    """Start the trainings of a pair of networks."""
    half = "bf16-mixed" if has_bfloat16(machine.device().type) else "32-true"
    common: dict[str, Any] = {"pair": pair, "batch_size": batch_size}

    def own(name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
        return contestants.ours, {**common, "folder": folder / name.replace(" ", "_"), **options}

    entries: dict[str, tuple[Any, dict[str, Any]]] = {
        "reference": (contestants.reference, common),
        "torchdistill": (contestants.torchdistill, common),
        "plain Lightning": (contestants.plain_lightning, {**common, "folder": folder / "plain"}),
        "ours, float32": own("float32", precision="32-true"),
        "ours, float32 compiled": own("float32c", precision="32-true", compile=compile),
        "ours, eager": own("eager", precision=half),
        "ours": own("ours", precision=half, compile=compile),
        "ours, replay": own("replay", precision=half, compile=compile, replay=True),
        "bare loop": (contestants.bare, {**common, "precision": half, "compile": compile}),
        "parts": (contestants.parts, {**common, "precision": half, "compile": compile}),
    }
    return {name: Contestant(*entry) for name, entry in entries.items() if only is None or name in only}


def race(field: dict[str, Contestant], batch_size: int, rounds: int, round_seconds: float) -> dict[str, dict[str, Any]]:
    """Run the trainings in turns.

    Returns:
        By name: median of images per second, images per second of each round, and the last report.
    """
    steps: dict[str, int] = {}
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in field}
    for name, one in field.items():
        one.steps(5)  # compile and warm up
        pace = one.steps(3)["seconds"] / 3
        steps[name] = max(3, round(round_seconds / pace))
        print(f"  {name}: {batch_size / pace:,.0f} images/s at first", flush=True)
    for _ in range(rounds):
        for name, one in field.items():
            reports[name].append(one.steps(steps[name]))
    results = {}
    for name, of_one in reports.items():
        speeds = [batch_size * steps[name] / report["seconds"] for report in of_one]
        results[name] = {
            "images_per_second": statistics.median(speeds),
            "rounds": [round(s, 1) for s in speeds],
            "memory_mib": of_one[-1]["memory"],
            "workers_mib": of_one[-1]["workers"],
            "device_mib": of_one[-1]["device"],
            "parts": {part: seconds / steps[name] for part, seconds in of_one[-1]["extra"].items()},
        }
    return results


def of_pair(pair: tuple[str, str], options: argparse.Namespace, folder: Path, peak: dict[str, float]) -> dict[str, Any]:
    """Measure the trainings of a pair of networks."""
    print(f"{pair[0]} -> {pair[1]}, batch {options.batch_size}", flush=True)
    started = field(pair, options.batch_size, folder, options.only, compile=not options.eager)
    try:
        results = race(started, options.batch_size, options.rounds, options.round_seconds)
    finally:
        for one in started.values():
            one.stop()
    work = flops(create_model(pair[0], 100), 32), 3 * flops(create_model(pair[1], 100), 32)
    baseline = results.get("reference", {}).get("images_per_second")
    for name, result in results.items():
        done = work[1] if "replay" in name else sum(work)
        result["ratio"] = result["images_per_second"] / baseline if baseline else None
        fast = name in ("ours", "ours, eager", "ours, replay", "bare loop", "parts") and "bfloat16" in peak
        result["share_of_peak"] = done * result["images_per_second"] / (peak["bfloat16" if fast else "float32"] * 1e9)
    if "parts" in results and "ours" in results and "bare loop" in results:
        seconds = results["parts"]["parts"]
        framework = options.batch_size * (
            1 / results["ours"]["images_per_second"] - 1 / results["bare loop"]["images_per_second"]
        )
        whole = sum(seconds.values()) + max(0.0, framework)
        shares = {part: value / whole for part, value in seconds.items()} | {"framework": max(0.0, framework) / whole}
        results["shares"] = shares
    return results


def block(name: str) -> str:
    """Return the table of these results for the documents; with the suffix ``_brief`` a few rows, speed only."""
    whole = name.removesuffix("_brief")
    pairs = json.loads((RESULTS / f"throughput_{whole}.json").read_text())["pairs"]
    return table(pairs) if whole == name else brief_table(pairs)


def brief_table(pairs: dict[str, dict[str, Any]]) -> str:
    """Return images per second and their ratio to the reference as Markdown, for a few rows."""
    lines = ["| | " + " | ".join(pairs) + " |", "|---|" + "---:|" * len(pairs)]
    for name in BRIEF:
        cells = [f"{of[name]['images_per_second']:,.0f} ({of[name]['ratio']:.2f} x)" for of in pairs.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def table(pairs: dict[str, dict[str, Any]]) -> str:
    """Return all results as Markdown."""
    lines = ["| | " + " | ".join(pairs) + " |", "|---|" + "---|" * len(pairs)]
    names = [name for name in next(iter(pairs.values())) if name not in ("shares", "parts")]
    for name in names:
        cells = []
        for results in pairs.values():
            one = results[name]
            ratio = f" ({one['ratio']:.2f} x)" if one["ratio"] else ""
            cells.append(
                f"{one['images_per_second']:,.0f}{ratio}, {one['share_of_peak']:.0%}, {one['memory_mib']:,.0f} MiB"
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--round-seconds", type=float, default=ROUND_SECONDS)
    parser.add_argument("--pairs", nargs="+", default=[":".join(p) for p in PAIRS], help="teacher:student")
    parser.add_argument("--only", nargs="+", help="names of the table's rows")
    parser.add_argument("--eager", action="store_true", help="do not compile")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    busy = machine.alone()
    facts = machine.facts()
    peak = facts["hardware"]["matrix_gflops"]
    kind = machine.device().type
    # Reuse code that was compiled for an earlier measurement.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "stkd_benchmark_compiled"))
    with tempfile.TemporaryDirectory() as folder:
        pairs = {}
        for pair in (tuple(p.split(":")) for p in options.pairs):
            pairs[" → ".join(pair)] = of_pair(pair, options, Path(folder) / pair[0], peak)
    result = {"batch_size": options.batch_size, "pairs": pairs, "busy_percent": busy, **facts}
    output = options.output or RESULTS / f"throughput_{kind}_{options.batch_size}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nimages/s (against the reference), share of the matrix peak {peak} GFLOP/s, peak memory")
    print(table(pairs))
    for name, results in pairs.items():
        if "shares" in results:
            print(f"{name}, a step of ours: " + ", ".join(f"{k} {v:.1%}" for k, v in results["shares"].items()))
    print(f"{output}")


if __name__ == "__main__":
    main()
