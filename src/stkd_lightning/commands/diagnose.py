"""Write ``diagnostics.npz`` into a run's folder: the data for figures of its selected student."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from tqdm import tqdm

from stkd_lightning.commands.local_data import load_local_data
from stkd_lightning.data.batches import BatchDataset, Batches, MaskBatchDataset
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.distillation.module import DistillationModule
from stkd_lightning.inference.load import checkpoint_file, load_student
from stkd_lightning.inference.trust import check_trusted
from stkd_lightning.models.audio.tagger import Tagger
from stkd_lightning.models.build import build_network
from stkd_lightning.models.feature_hooks import logits_of
from stkd_lightning.models.start import facts_of, plain_without_start
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.reporting.class_gallery import Pictures
from stkd_lightning.reporting.diagnose import diagnose
from stkd_lightning.reporting.diagnose_segmentation import diagnose_segmentation
from stkd_lightning.reporting.diagnose_tagging import HeardNetwork, diagnose_tagging
from stkd_lightning.reporting.diagnostics_file import FILE, DiagnosticsFile
from stkd_lightning.reporting.run import Run
from stkd_lightning.tasks.tagging import Tagging
from stkd_lightning.tasks.types import Batch
from stkd_lightning.teacher.frozen import FrozenTeacher
from stkd_lightning.utilities.console import warn
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.float32 import exact_float32

SHARE, LEAST_SECONDS = 0.1, 5.0  # of the training's time


@dataclass(frozen=True)
class Extent:
    """The extent of diagnostics.

    Attributes:
        images: largest number of images.
        seconds: time after which no further images are measured; ``None``: no limit.
        bar: show a progress bar.
    """

    images: int = 2048
    seconds: float | None = None
    bar: bool = True


def time_limit(training: float) -> float:
    """Return the seconds that the diagnostics of a run may take after so many seconds of training."""
    return max(LEAST_SECONDS, SHARE * training)


def write_diagnostics(
    module: DistillationModule, data: ArrayDataModule, run_dir: Path, device: torch.device, extent: Extent
) -> None:
    """Write the diagnostics of a run's selected student; an error is only a warning, as the run has its results.

    Args:
        module: receives the weights of the selected student.
        data: data module of the run.
        run_dir: folder with the run's checkpoints.
        device: device of the computation.
        extent: number of images and time.
    """
    try:
        module.load_state_dict(read_checkpoint(checkpoint_file(run_dir))["state_dict"])
        write(module.student, module.teacher if module.measures_teacher else None, data, run_dir / FILE, device, extent)
    except Exception as error:  # a network, a disk or a device can raise anything
        warn(f"{run_dir / FILE}: not written ({reason(error)})")


def diagnose_run(
    run: Run, teacher: Run | None, *, trust: bool, cache_dir: str | None = None, seconds: float | None = None
) -> None:
    """Write the diagnostics of a finished run's student from the files in its folder.

    Args:
        run: a run with a folder, whose data are on this machine.
        teacher: a run on the same data, with whose teacher the student is compared; ``None``: no teacher.
        trust: also build classes of the configurations that are not part of this project.
        cache_dir: folder of prepared data; ``None``: the default folder.
        seconds: time after which no further images are measured; ``None``: no limit.

    Raises:
        InputError: the data, the checkpoint or a class is missing, damaged or not trusted.
    """
    folder = cast(Path, run.folder)
    data = load_local_data(run.config["dataset"], folder / "config.yaml", trust=trust, cache_dir=cache_dir)
    data.prepare_data()
    if data.arrays.digest != run.group.digest:
        raise InputError("the data have changed since the run")
    student = load_student(folder, trust=trust)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    write(student, teacher_of(teacher, data, trust=trust), data, folder / FILE, device, Extent(seconds=seconds))


def teacher_of(run: Run | None, data: ArrayDataModule, *, trust: bool) -> FrozenTeacher | None:
    """Build the teacher of a run; ``None`` without a run.

    Raises:
        InputError: its weights are missing or damaged, or its class is not trusted.
    """
    if run is None:
        return None
    node, checkpoint = run.config["teacher"], run.summary.teacher_checkpoint
    # A file that does not say what input its network expects leaves it to the library's weights.
    told = checkpoint is None or bool(facts_of(read_checkpoint(checkpoint)))
    plain = plain_without_start(node["network"]) if told else node["network"]
    if not trust:
        check_trusted({"teacher": plain}, cast(Path, run.folder) / "config.yaml")
    network = build_network(
        OmegaConf.create(plain),
        data,
        checkpoint=checkpoint,
        checkpoint_key=node.get("checkpoint_key"),
        input_size=node["input_size"],
        mean=node["mean"],
        std=node["std"],
    )
    return FrozenTeacher(network)


def pictures_of(data: ArrayDataModule, name: str, sample: BatchDataset) -> Pictures:
    """Return the pictures of a split of a classifier's data.

    Args:
        data: the data.
        name: of the split.
        sample: some images of the split.
    """

    def fetch(index: int) -> Tensor:
        order = torch.tensor([index], device=sample.order.device)
        return replace(sample, order=order)[0].inputs

    return Pictures(fetch, lambda index: data.file_name(name, index), data.mean, data.std)


def write(
    student: nn.Module,
    teacher: FrozenTeacher | None,
    data: ArrayDataModule,
    path: Path,
    device: torch.device,
    extent: Extent,
) -> None:
    """Write the diagnostics of a student on validation images, or on test images if there are none."""
    measure(student, teacher, data, data.sample(extent.images), device, extent).save(path)


@exact_float32()
def measure(
    student: nn.Module,
    teacher: FrozenTeacher | None,
    data: ArrayDataModule,
    sample: Batches,
    device: torch.device,
    extent: Extent,
) -> DiagnosticsFile:
    """Return the diagnostics of a student on a sample of the data, until the time is over."""
    student, training = student.to(device).eval(), student.training
    dtype = next((p.dtype for p in student.parameters() if p.is_floating_point()), torch.float32)
    frozen = cast(FrozenTeacher, teacher and teacher.to(device))

    def student_logits(images: Tensor) -> Tensor:
        return data.task.infer(lambda inputs: logits_of(student(inputs)), images.to(dtype))

    def teacher_logits(images: Tensor) -> Tensor:
        return data.task.infer(lambda inputs: frozen(inputs, eager=True).logits, images)

    networks = student_logits, teacher_logits if teacher else None
    batches = _batches(sample, extent)
    shared: dict[str, Any] = {"device": device, "available": len(sample.order)}
    options: dict[str, Any] = {**shared, "num_classes": data.num_classes, "mean": data.mean, "std": data.std}
    diagnostics: DiagnosticsFile
    if isinstance(data.task, Tagging):
        heard = HeardNetwork(student_logits, _frames_of(student, dtype))
        other = HeardNetwork(teacher_logits, _frames_of(frozen.network, torch.float32)) if teacher else None
        diagnostics = diagnose_tagging(
            heard, other, batches, lambda i: _at(sample, i), sample_rate=data.arrays.sample_rate, **shared
        )
    elif isinstance(sample, MaskBatchDataset):
        diagnostics = diagnose_segmentation(*networks, batches, lambda indices: _single(sample, indices), **options)
    else:
        assert isinstance(sample, BatchDataset)
        pictures = pictures_of(data, data.sample_split, sample)
        diagnostics = diagnose(*networks, batches, **options, pictures=pictures)
    student.train(training)
    return diagnostics


def _frames_of(network: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """Return a function from clips ``(1, T)`` to frames and their logits; ``None`` if the network has none."""
    if not isinstance(network, Tagger):
        return None

    def frames(clips: Tensor) -> tuple[Tensor, Tensor]:
        spectrogram = network.front_end(clips.to(dtype))
        return network.network.frames(spectrogram), network.network.frame_logits(spectrogram)

    return frames


def _at(sample: Batches, position: int) -> Tensor:
    """Return the input ``(1, ...)`` at a position of a sample."""
    return replace(sample, order=sample.order[position : position + 1])[0].inputs


def _single(sample: MaskBatchDataset, indices: list[int]) -> Iterator[Batch]:
    """Yield batches of one image each, in the order of their indices."""
    for index in indices:
        yield replace(sample, order=torch.tensor([index], device=sample.order.device))[0]


def _batches(sample: Batches, extent: Extent) -> Iterator[Batch]:
    """Yield the batches of a sample, at least one, until the time is over."""
    start = time.monotonic()
    disable = None if extent.bar else True  # None: shown on a terminal only
    with tqdm(total=len(sample.order), desc="figures", unit="image", leave=False, disable=disable) as shown:
        for i in range(len(sample)):
            if i and extent.seconds is not None and time.monotonic() - start > extent.seconds:
                return
            batch = sample[i]
            yield batch
            shown.update(len(batch.labels))
