"""Keep the teacher that a run on CIFAR-100 trained: float16 weights and their accuracy in benchmarks/teachers/.

    python benchmarks/kept_teacher.py outputs/RUN resnet56_28     # writes resnet56_28.safetensors and resnet56_28.json

Tables read it with ``teacher.checkpoint``, so that runs on every machine have one teacher. The folder of the data is
``$STKD_DATA``, else ``data``.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from machine import device
from safetensors.torch import save_file

from stkd_lightning.data import CIFAR100DataModule
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.models import create_model
from stkd_lightning.teacher import FrozenTeacher, load_weights
from stkd_lightning.teacher.frozen import score
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.files import write_json

TEACHERS = Path(__file__).parent / "teachers"
PLACES = ("cache_dir=", "dataset.data_dir=", "hydra.", "resume=", "logger=")  # options that do not change a result


def rounded(network: str, checkpoint: Path, weights: Path, data: ArrayDataModule) -> dict[str, Any]:
    """Write a trained network's weights in float16, and test the written file.

    Args:
        network: name of the network.
        checkpoint: of a training, in which it is the student.
        weights: ``.safetensors`` file to write.
        data: whose test images are used, and whose mean and deviation the network expects.

    Returns:
        Facts for the record beside the weights.
    """
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = {k.removeprefix("student."): v for k, v in content["state_dict"].items() if k.startswith("student.")}
    half = {k: v.half().contiguous() for k, v in state.items() if v.is_floating_point()}
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, weights, {"network": network, "num_classes": str(data.num_classes)})
    read = create_model(network, data.num_classes)
    load_weights(read, weights)
    accuracy = score(FrozenTeacher(read.to(device())), data.test_dataloader(), device(), data.task)
    return {"network": network, "test_accuracy": accuracy, "mean": list(data.mean), "std": list(data.std)}


def portable(overrides: list[str]) -> list[str]:
    """Return the options of a run without its paths."""
    return [o for o in overrides if not o.startswith(PLACES)]


def keep(run: Path, name: str, data: ArrayDataModule, folder: Path = TEACHERS) -> dict[str, Any]:
    """Keep the teacher that a run trained.

    Args:
        run: folder of the run.
        name: of the two files.
        data: as of the run.
        folder: of the files.

    Raises:
        InputError: the folder has no finished run, the run trained no teacher, or it had other data.
    """
    try:
        summary = json.loads((run / "summary.json").read_text())
    except OSError as error:
        raise InputError(f"{run}: has no summary.json ({error.strerror}); give the folder of a finished run") from error
    taught = summary.get("teacher") or {}
    if not str(taught.get("source", "")).startswith("trained here"):
        raise InputError(f"{run}: trained no teacher; its source is {taught.get('source')}")
    if summary["data"]["digest"] != data.arrays.digest:
        raise InputError(f"{run}: its data are others than those in {data.data_dir}")
    checkpoint = Path(summary["teacher_checkpoint"])
    if not checkpoint.is_file():
        raise InputError(f"{run}: the checkpoint of its teacher is gone from {checkpoint}; train it again")
    weights = folder / f"{name}.safetensors"
    partial = weights.with_name(f"{name}.partial.safetensors")
    facts = rounded(taught["network"], checkpoint, partial, data)
    partial.rename(weights)
    facts |= {
        "test_accuracy_before_rounding": taught["test"]["last"]["accuracy"],
        "recipe": {"overrides": portable(summary["overrides"])},
        "data": {key: summary["data"][key] for key in ("name", "digest")},
        "versions": summary["versions"],
        "hardware": summary["hardware"],
    }
    write_json(folder / f"{name}.json", facts)
    return facts


def main(words: list[str]) -> int:
    """Keep the teacher of the run that the command line names."""
    if len(words) != 2:
        print("error: give a run's folder and a name: benchmarks/kept_teacher.py outputs/RUN NAME", file=sys.stderr)
        return 2
    try:
        facts = keep(Path(words[0]), words[1], CIFAR100DataModule(os.environ.get("STKD_DATA", "data"), download=False))
    except InputError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    before = facts["test_accuracy_before_rounding"]
    print(f"{words[1]}: {facts['test_accuracy']:.2%} on test images in float16, {before:.2%} before")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
