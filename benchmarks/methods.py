"""Cost of a training step of each method, relative to a step of KD on the same images.

    python benchmarks/methods.py

Each objective of conf/loss, with its mixing and settings, trains one pair of networks in its best precision, without
compilation. The methods take turns, one step each, for many rounds. In each round the time of a step is divided by the
mean of the KD steps before and after it; the result is the median. About 5 minutes on 2 cores.
Writes benchmarks/results/methods_<device>.json.
"""

import argparse
import json
import os
import statistics
import time
from itertools import islice
from pathlib import Path

import machine
import torch
from data import data_module
from hydra.utils import instantiate

from stkd_lightning import DistillationModule, StepContext
from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.training.precision import best_dtype
from stkd_lightning.distillation.optimizers import cifar_sgd
from stkd_lightning.tasks.types import Batch
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.paths import conf_dir
from stkd_lightning.utilities.random import seeded

RESULTS = Path(__file__).parent / "results"
REFERENCE = "kd"
WARM_UP = 2  # rounds that allocate memory


class Training:
    """Training of a student with one method.

    Args:
        method: name of a file in conf/loss.
        pair: names of teacher and student.
        num_samples: number of training images.
        device: device for the training.
    """

    def __init__(self, method: str, pair: tuple[str, str], num_samples: int, device: torch.device) -> None:
        config = composed("train", [f"loss={method}", f"teacher={pair[0]}", f"student={pair[1]}"])
        config.num_classes, config.num_samples = 100, num_samples
        seeded(0)
        student = instantiate(config.distilled or config.student)
        teacher = FrozenTeacher(instantiate(config.teacher.network))
        self.module = DistillationModule(student, instantiate(config.loss), teacher, instantiate(config.mixup))
        self.module.to(device)
        self.optimizer = cifar_sgd([p for p in self.module.parameters() if p.requires_grad])
        self.half = best_dtype(student, device.type) == torch.bfloat16
        self.device = device

    def step(self, batch: Batch, position: int) -> float:
        """Train on a batch, and return the time in seconds."""
        context = StepContext(0, 240, position, batch.indices)
        machine.synchronize()
        start = time.perf_counter()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            objective = torch.stack(list(self.module.terms(batch, context).values())).sum()
        objective.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        machine.synchronize()
        return time.perf_counter() - start


def measure(methods: list[str], pair: tuple[str, str], batch_size: int, rounds: int) -> dict[str, float]:
    """Return the cost of each method's step relative to KD's."""
    device, data = machine.device(), data_module(batch_size=batch_size)
    count = len(data.arrays.splits["train"].labels)
    with composing():
        reference = Training(REFERENCE, pair, count, device)
        field = {method: Training(method, pair, count, device) for method in methods}
    ratios: dict[str, list[float]] = {method: [] for method in methods}
    for position, batch in enumerate(islice(data.train_dataloader(), WARM_UP + rounds)):
        batch = Batch(*(tensor.to(device) for tensor in batch if tensor is not None))
        before = reference.step(batch, position)
        for method, training in field.items():
            seconds, after = training.step(batch, position), reference.step(batch, position)
            if position >= WARM_UP:
                ratios[method].append(2 * seconds / (before + after))
            before = after
    return {method: statistics.median(values) for method, values in ratios.items()}


def main() -> None:
    names = sorted(p.stem for p in (conf_dir() / "loss").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", nargs=2, default=["resnet32x4", "resnet8x4"], metavar=("TEACHER", "STUDENT"))
    parser.add_argument("--methods", nargs="+", default=names, choices=names)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULTS / f"methods_{machine.device().type}.json")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    busy = machine.alone()
    teacher, student = options.pair
    costs = measure(options.methods, (teacher, student), options.batch_size, options.rounds)
    costs = dict(sorted(costs.items(), key=lambda item: item[1]))
    result = {"pair": options.pair, "batch_size": options.batch_size, "rounds": options.rounds, "step": costs}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({**result, "busy_percent": busy, **machine.facts()}, indent=1) + "\n")
    for name, cost in costs.items():
        print(f"{name:24}{cost:6.2f}")
    print(options.output)


if __name__ == "__main__":
    main()
