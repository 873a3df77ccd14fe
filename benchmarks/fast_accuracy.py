"""Accuracy of students trained by the fast path, the plain path, and the literature's loop.

    python benchmarks/fast_accuracy.py

Five epochs of CIFAR-100 (``$STKD_DATA`` or ``data``), resnet20 -> resnet8 with STKD, seeds 0, 1, 2, one teacher. Test
accuracy of the last student, without selection. About 40 minutes on 2 cores.
Writes benchmarks/results/fast_accuracy_<device>.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import machine
import torch
from contestants import mixed, objective
from data import Images, data_module, loader

from stkd_lightning.models import create_model
from stkd_lightning.models.weights import load_weights
from stkd_lightning.schedules import MultiStep

RESULTS = Path(__file__).parent / "results"
PATHS = {
    "fast": ["precision=auto", "compile=true"],
    "plain": ["precision=32-true", "compile=false", "dataset.resident=false"],
}


def command(folder: Path, epochs: int, cache: Path, *overrides: str) -> dict[str, Any]:
    """Run the train command, and return its summary."""
    data = Path(os.environ.get("STKD_DATA", "data")).absolute()
    words = [
        *("dataset=cifar100", f"dataset.data_dir={data}", "teacher=resnet20", "logger=csv"),
        *(f"trainer.max_epochs={epochs}", f"cache_dir={cache}", f"hydra.run.dir={folder}", *overrides),
    ]
    subprocess.run([sys.executable, "-m", "stkd_lightning.train", *words], check=True, stdout=subprocess.DEVNULL)
    return json.loads((folder / "summary.json").read_text())


def by_loop(teacher_weights: Path, epochs: int, seed: int, cache: Path) -> float:
    """Return the test accuracy of a student trained by the literature's loop, on the same images."""
    here = machine.device()
    batches = data_module(cache_dir=cache, seed=seed)
    split = batches.arrays.splits["train"]
    chosen = batches._train_and_held_out[0]
    teacher = create_model("resnet20", 100).to(here).eval()
    load_weights(teacher, teacher_weights)
    torch.manual_seed(seed)
    student = create_model("resnet8", 100).to(here)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    shown = loader(64, Images(split.inputs.numpy()[chosen], split.labels.numpy()[chosen], batches.mean, batches.std))
    schedule, step = MultiStep(), 0
    for _ in range(epochs):
        for images, labels in shown:
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * schedule(step / (epochs * len(shown)))
            virtual, others, weight = mixed(images.to(here), labels.to(here))
            with torch.no_grad():
                taught = teacher(virtual)
            loss = objective(student(virtual), taught, labels.to(here), others, weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    student.eval()
    with torch.no_grad():
        right = sum(
            int((student(batch.images.to(here)).argmax(1) == batch.labels.to(here)).sum())
            for batch in batches.test_dataloader()
        )
    return right / len(batches.arrays.splits["test"].labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS / f"fast_accuracy_{machine.device().type}.json")
    options = parser.parse_args()
    figures: dict[str, list[float]] = {"fast": [], "plain": [], "reference loop": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"
        alone = ("student=resnet20", "loss=ce", "precision=32-true")
        teacher = command(folder / "teacher", options.epochs, cache, *alone)["student"]["test"]["last"]["accuracy"]
        weights = folder / "teacher" / "checkpoints" / "last.ckpt"
        for seed in options.seeds:
            for path, overrides in PATHS.items():
                own = command(
                    folder / f"{path}{seed}",
                    options.epochs,
                    cache,
                    f"seed={seed}",
                    "student=resnet8",
                    f"teacher.checkpoint={weights}",
                    *overrides,
                )
                figures[path].append(own["student"]["test"]["last"]["accuracy"])
                print(f"seed {seed}, {path}: {figures[path][-1]:.4f}", flush=True)
            figures["reference loop"].append(by_loop(weights, options.epochs, seed, cache))
            print(f"seed {seed}, reference loop: {figures['reference loop'][-1]:.4f}", flush=True)
    result = {
        "epochs": options.epochs,
        "seeds": options.seeds,
        "teacher": teacher,
        "students": {
            path: {"accuracies": values, "mean": statistics.mean(values), "std": statistics.stdev(values)}
            for path, values in figures.items()
        },
        **machine.facts(),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"teacher {result['teacher']:.1%}; test accuracy of the students, mean and standard deviation over seeds")
    for path, one in result["students"].items():
        print(f"  {path}: {one['mean']:.2%} ± {one['std']:.2%}")
    print(options.output)


if __name__ == "__main__":
    main()
