"""Speed and memory with larger batches, larger data sets and more ranks.

    python benchmarks/scaling.py

resnet56 -> resnet20 with STKD in the precision of ``precision=auto``, not compiled. The data are noise of CIFAR-100's
shape. Loaders without networks read photographs at 224 pixels. About 8 minutes on 2 cores. Writes
benchmarks/results/scaling_<device>.json.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import contestants
import machine
import torch
from data import NoiseDataModule
from pacing import Contestant, memory
from photographs import photographs

from stkd_lightning.commands.training.precision import has_bfloat16

RESULTS = Path(__file__).parent / "results"
PAIR = ("resnet56", "resnet20")


def batch_sizes(sizes: list[int], rounds: int, images: int, folder: Path) -> dict[str, dict[str, float]]:
    """Return images per second and peak memory by batch size."""
    half = "bf16-mixed" if has_bfloat16(machine.device().type) else "32-true"
    field = {
        size: Contestant(
            contestants.ours, {"pair": PAIR, "batch_size": size, "folder": folder / f"batch{size}", "precision": half}
        )
        for size in sizes
    }
    speeds: dict[int, list[float]] = {size: [] for size in sizes}
    for one in field.values():
        one.steps(3)
    for _ in range(rounds):
        for size, one in field.items():
            steps = max(2, images // size)
            report = one.steps(steps)
            speeds[size].append(size * steps / report["seconds"])
    results = {}
    for size, one in field.items():
        last = one.steps(1)
        results[str(size)] = {
            "images_per_second": statistics.median(speeds[size]),
            "memory_mib": last["memory"],
            "device_mib": last["device"],
        }
        one.stop()
    return results


def _open(count: int, cache: Path, connection: Connection) -> None:
    module = NoiseDataModule(count=count, batch_size=64, cache_dir=cache, validation_fraction=0)
    module.prepare_data()
    before = memory()["memory"]
    start = time.perf_counter()
    again = NoiseDataModule(count=count, batch_size=64, cache_dir=cache, validation_fraction=0)
    again.prepare_data()
    opened = time.perf_counter() - start
    batches = iter(again.train_dataloader())
    next(batches)
    first = time.perf_counter() - start
    start = time.perf_counter()
    shown = min(200, count // 64 - 1)
    for _ in range(shown):
        next(batches)
    speed = 64 * shown / (time.perf_counter() - start)
    connection.send(
        {"open_s": opened, "first_batch_s": first, "images_per_second": speed, "grown_mib": memory()["memory"] - before}
    )


def data_sizes(counts: list[int], cache: Path) -> dict[str, dict[str, float]]:
    """Return time and memory to open a prepared data set and to read batches from it, by number of images.

    Separate processes prepare and open the data, so the memory is that of opening alone.
    """
    results = {}
    context = multiprocessing.get_context("spawn")
    for count in counts:
        NoiseDataModule(count=count, cache_dir=cache).prepare_data()
        ours, theirs = context.Pipe()
        process = context.Process(target=_open, args=(count, cache, theirs))
        process.start()
        results[str(count)] = ours.recv()
        process.join()
    return results


def ranks(numbers: list[int], batches: int, folder: Path) -> dict[str, dict[str, float]]:
    """Return images per second by number of ranks; the ranks share a batch of 64, and on a CPU also the cores."""
    results = {}
    gpu = torch.cuda.is_available()
    for number in numbers:
        run = folder / f"ranks{number}"
        words = [
            *("experiment=quickstart", "baseline=false", f"teacher={PAIR[0]}", f"student={PAIR[1]}", "logger=csv"),
            *("trainer=ddp", f"trainer.accelerator={'gpu' if gpu else 'cpu'}", f"trainer.devices={number}"),
            *("trainer.max_epochs=2", f"trainer.limit_train_batches={batches}", "teacher.max_epochs=1"),
            *("teacher.min_accuracy=0", f"cache_dir={folder / 'cache'}", f"hydra.run.dir={run}"),
        ]
        threads = str(max(1, len(os.sched_getaffinity(0)) // number))
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        subprocess.run(
            [sys.executable, "-m", "stkd_lightning.train", *words],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
        results[str(number)] = {"images_per_second": summary["images_per_second"]}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512])
    parser.add_argument("--counts", type=int, nargs="+", default=[5_000, 50_000, 500_000])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--photographs", type=int, default=2000, help="number of photographs at 224 pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2048, help="number of images in a round")
    parser.add_argument("--batches", type=int, default=18, help="number of batches in an epoch with several ranks")
    parser.add_argument("--output", type=Path, default=RESULTS / f"scaling_{machine.device().type}.json")
    options = parser.parse_args()
    busy = machine.alone()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = {
            "batch_size": batch_sizes(options.batch_sizes, options.rounds, options.images, folder),
            "data": data_sizes(options.counts, folder / "data"),
            "ranks": ranks(options.ranks, options.batches, folder),
            "photographs": photographs(
                folder / "photos", options.photographs, options.rounds, len(os.sched_getaffinity(0))
            ),
            "busy_percent": busy,
            **machine.facts(),
        }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    for size, one in result["batch_size"].items():
        print(f"batch {size}: {one['images_per_second']:,.0f} images/s, {one['memory_mib']:,.0f} MiB")
    for count, one in result["data"].items():
        print(
            f"{int(count):,} images: opened in {1000 * one['open_s']:.0f} ms, first batch after "
            f"{1000 * one['first_batch_s']:.0f} ms, {one['images_per_second']:,.0f} images/s, "
            f"{one['grown_mib']:,.0f} MiB more"
        )
    for number, one in result["ranks"].items():
        print(f"{number} ranks (digits): {one['images_per_second']:,.0f} images/s")
    for name, one in result["photographs"].items():
        print(
            f"photographs, {name}: {one['images_per_second']:,.0f} images/s, {one['ratio']:.2f} x torchvision's, "
            f"{one['disk_mib']:,.0f} MiB of disk"
        )
    print(options.output)


if __name__ == "__main__":
    main()
