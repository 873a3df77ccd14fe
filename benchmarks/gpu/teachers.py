"""Stage ``teachers``: networks trained on all of CIFAR-100, kept as float16 weights with accuracy and recipe."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kept_teacher import portable, rounded
from machine import device

from gpu.budget import Budget
from gpu.check import one_graph_passed
from gpu.item import Item, Result
from gpu.places import Places
from gpu.queue import tail
from gpu.sizes import Recipe, Sizes
from stkd_lightning.data import CIFAR100DataModule
from stkd_lightning.utilities.files import write_json

BEGIN = 45.0  # seconds in which a training starts and compiles, and its weights are tested and written
MARGIN = 1.1  # an epoch may take so many times the stated seconds


def seconds(recipe: Recipe, epoch: float, begin: float = BEGIN) -> float:
    """Return the expected duration of a training; an epoch in batches of 256 takes ``epoch`` seconds."""
    return begin + MARGIN * recipe.epochs * recipe.pace * epoch


def fitting(recipes: Sequence[Recipe], epoch: float, left: float) -> Recipe:
    """Return the first recipe that ends in time, else the shortest."""
    fits = [recipe for recipe in recipes if seconds(recipe, epoch) <= left]
    return fits[0] if fits else min(recipes, key=lambda recipe: recipe.epochs)


def train(name: str, epoch: float, sizes: Sizes, places: Places, budget: Budget) -> Result:
    """Train a teacher by the longest recipe that the budget allows, and keep it.

    Raises:
        RuntimeError: the training failed; with the end of its log.
    """
    recipe = fitting(sizes.recipes, epoch, budget.left)
    folder = places.work / "teachers" / name
    shutil.rmtree(folder, ignore_errors=True)  # a training does not span calls
    device_options = ("trainer=gpu",) if device().type == "cuda" else ("trainer=cpu",)
    options = [
        *("dataset=cifar100", f"dataset.data_dir={places.data.absolute()}", "dataset.validation_fraction=0"),
        *(f"student={name}", "loss=ce", "logger=csv", f"trainer.max_epochs={recipe.epochs}"),
        *(*device_options, *recipe.settings, *sizes.extra, f"hydra.run.dir='{folder}'", "resume=false"),
    ]
    options += ["cuda_graph=true"] if one_graph_passed(places.results) else []
    log = folder.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        command = [sys.executable, "-m", "stkd_lightning.train", *options]
        code = subprocess.run(command, stdout=output, stderr=output).returncode
    if code:
        raise RuntimeError(f"exit code {code}: {tail(log)}")
    return keep(name, recipe, folder, places)


def keep(name: str, recipe: Recipe, folder: Path, places: Places) -> Result:
    """Round a trained network to float16, test the rounded weights, and write both files of the teacher.

    Args:
        name: of the network.
        recipe: of its training.
        folder: of its run.
        places: folders of the queue.
    """
    data = CIFAR100DataModule(places.data, download=False, validation_fraction=0)
    weights, partial_file = places.teachers / f"{name}.safetensors", folder / f"{name}.safetensors"
    facts = rounded(name, folder / "checkpoints" / "last.ckpt", partial_file, data)
    summary = json.loads((folder / "summary.json").read_text())
    about: dict[str, Any] = facts | {
        "test_accuracy_before_rounding": summary["student"]["test"]["last"]["accuracy"],
        "recipe": {"name": recipe.name, "epochs": recipe.epochs, "overrides": portable(summary["overrides"])},
        "data": {"name": summary["data"]["name"], "digest": summary["data"]["digest"]},
        "training_seconds": summary["seconds"],
        "images_per_second": summary["images_per_second"],
        "versions": summary["versions"],
        "hardware": summary["hardware"],
    }
    places.teachers.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(partial_file, weights)
    write_json(places.teachers / f"{name}.json", about)
    return about


def missing(data: Path) -> str:
    """Return a message if CIFAR-100 is not in a folder, else an empty string."""
    return "" if (data / "cifar-100-python").is_dir() else f"no cifar-100-python in {data}"


def items(sizes: Sizes, places: Places, budget: Budget) -> list[Item]:
    """Return the items of the stage; a teacher's training begins and ends in one call."""
    return [
        Item(
            "teachers",
            name,
            min(seconds(recipe, epoch, sizes.seconds * BEGIN) for recipe in sizes.recipes),
            partial(train, name, epoch, sizes, places, budget),
            already=(places.teachers / f"{name}.json").is_file,  # the weights may have stayed at home
            needs=lambda: missing(places.data),
        )
        for name, epoch in sizes.teachers
    ]
