"""Quantize an exported file, and measure it beside its student in float32."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from stkd_lightning.commands.latency import rounds_for
from stkd_lightning.data.batches import Normalize
from stkd_lightning.data.loader import EvalLoader
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.formats import QuantizedFormat
from stkd_lightning.inference.formats.base import expressing
from stkd_lightning.inference.front_end import complete, front_end_of
from stkd_lightning.inference.quantization import Quantization
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.reporting.latency import latencies
from stkd_lightning.tasks.clips import split_clips
from stkd_lightning.tasks.evaluation import measured
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, RunError, reason

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Samples:
    """Samples of a split as the student sees them, and their description in words."""

    loader: EvalLoader
    words: str

    @classmethod
    def of(cls, name: str, loader: EvalLoader, student: Student, data: ArrayDataModule) -> "_Samples":
        """Normalize the images by the constants of the student; clips have none."""
        hears = student.facts.sample_rate is not None
        trained_on = (student.about.get("data") or {}).get("digest")
        changed = "" if data.arrays.digest == trained_on else ", which changed since the training"
        words = f"{len(loader.indices):,} {name} {'clips' if hears else 'images'} of {data.name}{changed}"
        return cls(loader if hears else loader.normalized_by(Normalize(student.mean, student.std)), words)


@torch.inference_mode()
def quantize(
    export_format: QuantizedFormat,
    file: Path,
    facts: StudentFacts,
    student: Student,
    data: ArrayDataModule,
    some: Tensor,
) -> Quantization:
    """Quantize a file in its place, and measure it.

    Args:
        export_format: of the file.
        file: in float32, as ``export_format.write`` leaves it.
        facts: of the file.
        student: of the checkpoint, with its front end.
        data: of the student's run.
        some: inputs of the file ``(B, ...)``, with which it is timed.

    Raises:
        InputError: the quantizer cannot express the network.
        RunError: the quantized file cannot be run.
    """
    training, test = (
        _Samples.of(name, loader, student, data)
        for name, loader in (
            ("training", data.calibration_dataloader(export_format.calibration_images)),
            ("test", data.test_dataloader()),
        )
    )
    print_rank_zero(f"calibrating on {training.words}, then measuring on {test.words}")
    with TemporaryDirectory(prefix="stkd_lightning.") as folder:
        source = Path(shutil.move(file, folder))
        with expressing(export_format.name, student):
            export_format.quantize(source, file, _calibration(training.loader, facts))
        exact, quantized = (export_format.read(path, facts) for path in (source, file))
        try:
            figures = _metrics(student, test, data), _metrics(complete(quantized, facts), test, data)
            milliseconds = {n: _milliseconds(exact, quantized, some[:n]) for n in sorted({1, len(some)})}
        except InputError:
            raise
        except Exception as error:  # many libraries have many types
            text = f"format={export_format.name}: the exported file cannot be run and was removed ({reason(error)})"
            raise RunError(text, passes=False) from error
        sizes = source.stat().st_size, file.stat().st_size
    return Quantization(
        training.words, test.words, data.task.score, *figures, sizes, milliseconds, threads=torch.get_num_threads()
    )


def check_drop(name: str, quantization: Quantization, max_drop: float) -> None:
    """Refuse a file whose score is too far below that of its student.

    Args:
        name: of the format.
        quantization: figures of the file.
        max_drop: in the unit of the drop.

    Raises:
        RunError: names both scores.
    """
    if not quantization.drop <= max_drop:  # also if a score is NaN
        raise RunError(
            f"format={name}: {quantization.comparison}, which is {quantization.drop:.2f} {quantization.unit} less and "
            f"above max_drop={max_drop:g}; the exported file was removed; format=onnx keeps float32",
            passes=False,
        )


def _calibration(loader: EvalLoader, facts: StudentFacts) -> Iterator[Tensor]:
    """Yield the inputs of a file; clips of unequal lengths one by one."""
    for batch in loader:
        for samples in _parts(batch.inputs):
            yield front_end_of(facts)(samples) if facts.outside else samples


def _metrics(network: Network, samples: _Samples, data: ArrayDataModule) -> dict[str, float]:
    """Return the metrics of a network on the CPU, which takes clips without padding, as a file does."""

    def logits(inputs: Tensor) -> Tensor:
        return torch.cat([network(part) for part in _parts(inputs)])

    refusal = f"logits on {samples.words} are NaN or infinite; export another student"
    return measured(logits, samples.loader, torch.device("cpu"), data.task, refusal=refusal)


def _parts(inputs: Tensor) -> list[Tensor]:
    """Return the inputs ``(B, ...)`` of networks without padding, in one batch if no clip is padded."""
    samples, present = split_clips(inputs)
    return [samples] if present is None else [clip[mask][None] for clip, mask in zip(samples, present, strict=True)]


def _milliseconds(exact: Network, quantized: Network, inputs: Tensor) -> tuple[float, float]:
    """Return the times of two networks side by side."""
    seconds = latencies({"exact": exact, "quantized": quantized}, inputs, rounds=rounds_for(inputs))
    return 1000 * seconds["exact"], 1000 * seconds["quantized"]
