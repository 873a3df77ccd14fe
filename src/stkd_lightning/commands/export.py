"""Export a student as a file for other programs, and compare it with the checkpoint before it is kept."""

from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from stkd_lightning.commands.chosen_run import student_path
from stkd_lightning.commands.config.command_checks import check_output, default_output
from stkd_lightning.commands.export_images import export_images
from stkd_lightning.commands.local_data import check_classes
from stkd_lightning.commands.quantize import check_drop, quantize
from stkd_lightning.commands.training.fit import quiet
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.export_folder import CARD, check_replaceable, write_facts
from stkd_lightning.inference.formats import Format, QuantizedFormat
from stkd_lightning.inference.formats.base import expressing, need
from stkd_lightning.inference.front_end import front_end_of, without_front_end
from stkd_lightning.inference.hub import check_hub, push
from stkd_lightning.inference.load import load_student
from stkd_lightning.inference.model_card import card
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.verify import largest_difference
from stkd_lightning.models.cost import flops, parameters
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import atomic_folder, write_text


def export(config: DictConfig) -> None:
    """Run a composed ``export.yaml``.

    Args:
        config: the checked configuration.

    Raises:
        InputError: the checkpoint, output folder or repository is not valid, or a package is not installed.
        RunError: the logits of the file differ from the checkpoint's, a quantized file loses more than ``max_drop``, or
            the hub cannot be reached.
    """
    quiet()
    path = student_path(Path(config.checkpoint))
    output = Path(config.output) if config.output is not None else default_output(path)
    check_output(output)
    export_format: Format = instantiate(config.format)
    if config.front_end == "outside" and not export_format.usage:
        raise InputError(
            f"front_end=outside: format={export_format.name} holds weights, of which this project builds the whole "
            "student; set front_end=inside"
        )
    need(export_format.name, export_format.packages)
    check_replaceable(output)
    if config.push_to_hub is not None:
        check_hub(config.push_to_hub)
    student = load_student(path, trust=config.trust)
    quantizes = isinstance(export_format, QuantizedFormat)
    if quantizes and config.front_end == "inside" and "front_end" in student.facts.network:
        raise InputError(
            f"front_end=inside: format={export_format.name} loses too much of spectra in 8 bits; set front_end=outside"
        )
    images = export_images(student, path, config, required_by=export_format.name if quantizes else None)
    if quantizes and images.data is not None:
        check_classes(images.data, student.class_names, path)
    _add_facts(student, images.data)
    exported, inputs = student, images.inputs
    if config.front_end == "outside":
        exported = without_front_end(student)
        inputs = front_end_of(student.facts)(inputs)
    with atomic_folder(output) as folder:
        file = folder / export_format.file
        with expressing(export_format.name, student):
            export_format.write(exported, file)
        difference = largest_difference(exported, export_format, file, inputs)
        comparison = {
            "images": images.description,
            "batches": [1, len(inputs)],
            "largest_difference": difference,
        }
        quantization = None
        if isinstance(export_format, QuantizedFormat) and images.data is not None:
            quantization = quantize(export_format, file, exported.facts, student, images.data, inputs)
            check_drop(export_format.name, quantization, config.max_drop)
        write_text(folder / CARD, card(exported.facts, export_format, comparison, config.push_to_hub, quantization))
        write_facts(folder, export_format, exported.facts, comparison, quantization)
    size = (output / export_format.file).stat().st_size / 2**20
    print_rank_zero(f"{output}: {export_format.file} ({size:.1f} MiB), student.json, {CARD}")
    before = ", before it was quantized" if quantizes else ""
    print_rank_zero(
        f"compared with the checkpoint on {images.description}{before}: logits differ by {difference:.1e} at most"
    )
    for line in [] if quantization is None else quantization.lines():
        print_rank_zero(line)
    if config.push_to_hub is not None:
        print_rank_zero(f"uploaded to {push(output, config.push_to_hub, private=config.private)}")


def _add_facts(student: Student, data: ArrayDataModule | None) -> None:
    """Add the cost of the network and, if the data are those of the training, the number of test images."""
    try:
        cost = {
            "parameters": parameters(student.network),
            "flops": flops(student.network, student.facts.image_size, len(student.facts.mean)),
        }
    except Exception:  # neither can be counted in an exported program
        cost = {}
    student.about["student"] = {**cost, **(student.about.get("student") or {})}
    if data is not None and data.arrays.digest == (student.about.get("data") or {}).get("digest"):
        student.about["test_images"] = data.image_counts["test"]
