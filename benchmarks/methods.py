"""Cost of a training step of each method, relative to a step of KD on the same images.

    python benchmarks/methods.py
    python benchmarks/methods.py --task segmentation
    python benchmarks/methods.py --task tagging

Each objective of conf/loss, with its mixing and settings, trains one pair of networks in its best precision, without
compilation. The methods take turns, one step each, for many rounds. In each round the time of a step is divided by the
mean of the KD steps before and after it; the result is the median. The methods that need a class for each pixel train
DilatedResNet of width 24 -> 8 on noise of CamVid's shape; those of sound train CNN6 of width 16 -> CRNN on noise of
2.5 s. About 5 minutes on 2 cores. Writes benchmarks/results/methods_<device>.json, or methods_<task>_<device>.json.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import machine
import torch
from data import data_module
from hydra.utils import instantiate
from torch import Tensor

from stkd_lightning import DistillationModule, StepContext
from stkd_lightning.commands.config.compose import composed, composing
from stkd_lightning.commands.training.precision import best_dtype
from stkd_lightning.data.batches import ResidentBatch
from stkd_lightning.distillation.optimizers import cifar_sgd
from stkd_lightning.models.start import without_start
from stkd_lightning.tasks import Classification, Segmentation, Tagging, Task
from stkd_lightning.tasks.types import Batch
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.utilities.paths import conf_dir
from stkd_lightning.utilities.random import seeded

RESULTS = Path(__file__).parent / "results"
SEGMENTATION = ("cwd", "dsd", "dsd_cirkd", "ifvd", "pixel_kd", "skd", "spirit")  # measured with a class for each pixel
TAGGING = ("iusp", "kd_iusp")  # measured with clips of sound
FRONT_END = "{window:200,hop:80,f_max:3800.0,mels:%d}"
REFERENCE = "kd"
NORMALIZATION = {"mean": [0.5] * 3, "std": [0.25] * 3}  # of views; the values do not matter
WARM_UP = 2  # rounds that allocate memory


@dataclass(frozen=True)
class Workload:
    """Networks and batches that the methods train.

    Attributes:
        pair: names of teacher and student.
        task: of the networks.
        classes: number of classes.
        samples: number of training images.
        batch_size: samples of a batch.
        batches: at least as many as there are rounds.
        example: an input of the networks, if it is not an image of CIFAR-100.
        overrides: options of the networks.
    """

    pair: tuple[str, str]
    task: Task
    classes: int
    samples: int
    batch_size: int
    batches: Iterable[Batch | ResidentBatch]
    example: Tensor | None = None
    overrides: tuple[str, ...] = ()


def classification(pair: tuple[str, str] | None, batch_size: int) -> Workload:
    """Return CIFAR-100 with a pair of the zoo."""
    data = data_module(batch_size=batch_size)
    count = len(data.arrays.splits["train"].labels)
    return Workload(
        pair or ("resnet32x4", "resnet8x4"), Classification(), 100, count, batch_size, data.train_dataloader()
    )


def segmentation(pair: tuple[str, str] | None, batch_size: int) -> Workload:
    """Return noise of CamVid's shape at 240x180 pixels, of which a tenth have no class."""
    generator, classes, shape = torch.Generator().manual_seed(0), 11, (batch_size, 180, 240)
    images = torch.randn(batch_size, 3, *shape[1:], generator=generator)
    labels = torch.randint(0, classes, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) < 0.1] = 255
    batches = [Batch(images, labels, torch.arange(batch_size))] * 1000
    task = Segmentation(tuple(f"class {i}" for i in range(classes)))
    networks = pair or ("dilated_resnet", "dilated_resnet")
    example = torch.zeros(1, 3, *shape[1:])
    return Workload(networks, task, classes, 367, batch_size, batches, example, () if pair else ("student.width=8",))


def tagging(pair: tuple[str, str] | None, batch_size: int) -> Workload:
    """Return noise of the shape of clips of spoken digits, for the networks of table K."""
    generator, classes, samples = torch.Generator().manual_seed(0), 10, 20_000
    clips = 0.1 * torch.randn(batch_size, samples, generator=generator)
    labels = torch.randint(0, 2, (batch_size, classes), generator=generator)
    batches = [Batch(clips, labels, torch.arange(batch_size))] * 1000
    front_ends = [f"{node}.front_end={FRONT_END % mels}" for node, mels in (("student", 20), ("teacher.network", 64))]
    overrides = ("dataset=digits_tagging", *front_ends, *(() if pair else ("teacher.network.width=16",)))
    task = Tagging(tuple("0123456789"))
    example = torch.zeros(1, samples)
    return Workload(pair or ("cnn", "crnn"), task, classes, 2000, batch_size, batches, example, overrides)


def task_of(method: str) -> str:
    """Return the task in which a method is measured."""
    return "segmentation" if method in SEGMENTATION else "tagging" if method in TAGGING else "classification"


class Training:
    """Training of a student with one method.

    Args:
        method: name of a file in conf/loss.
        workload: networks and batches.
        device: device for the training.
    """

    def __init__(self, method: str, workload: Workload, device: torch.device) -> None:
        teacher_name, student_name = workload.pair
        names = [f"loss={method}", f"teacher={teacher_name}", f"student={student_name}"]
        config = composed("train", [*names, *workload.overrides])
        config.num_classes, config.num_samples = workload.classes, workload.samples
        seeded(0)
        size = {"image_size": 32} if "image_size" in (config.distilled or {}) else {}
        student = instantiate(without_start(config.distilled or config.student), **size)
        teacher = FrozenTeacher(instantiate(config.teacher.network))
        views = {name: value for name, value in NORMALIZATION.items() if name in config.mixup}
        loss, mixup = instantiate(config.loss), instantiate(config.mixup, **views)
        self.module = DistillationModule(student, loss, teacher, mixup, task=workload.task, example=workload.example)
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


def measure(methods: list[str], workload: Workload, rounds: int) -> dict[str, float]:
    """Return the cost of each method's step relative to KD's."""
    device = machine.device()
    with composing():
        reference = Training(REFERENCE, workload, device)
        field = {method: Training(method, workload, device) for method in methods}
    ratios: dict[str, list[float]] = {method: [] for method in methods}
    for position, batch in enumerate(islice(workload.batches, WARM_UP + rounds)):
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
    parser.add_argument("--task", default="classification", choices=("classification", "segmentation", "tagging"))
    parser.add_argument("--pair", nargs=2, metavar=("TEACHER", "STUDENT"), help="default: resnet32x4 resnet8x4")
    parser.add_argument("--methods", nargs="+", choices=names, help="default: all of the task")
    parser.add_argument("--batch-size", type=int, help="default: 64, 8 for segmentation, 32 for tagging")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    busy = machine.alone()
    if options.task == "segmentation":
        workload = segmentation(options.pair, options.batch_size or 8)
    elif options.task == "tagging":
        workload = tagging(options.pair, options.batch_size or 32)
    else:
        workload = classification(options.pair, options.batch_size or 64)
    methods = options.methods or [name for name in names if task_of(name) == options.task]
    costs = measure(methods, workload, options.rounds)
    costs = dict(sorted(costs.items(), key=lambda item: item[1]))
    result = {"pair": workload.pair, "batch_size": workload.batch_size, "rounds": options.rounds, "step": costs}
    kind = "methods" if options.task == "classification" else f"methods_{options.task}"
    output = options.output or RESULTS / f"{kind}_{machine.device().type}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({**result, "busy_percent": busy, **machine.facts()}, indent=1) + "\n")
    for name, cost in costs.items():
        print(f"{name:24}{cost:6.2f}")
    print(output)


if __name__ == "__main__":
    main()
