"""What the configurations of ``export``, ``predict`` and ``report`` show to be wrong before torch is loaded."""

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from stkd_lightning.utilities import validation
from stkd_lightning.utilities.choices import DEVICES
from stkd_lightning.utilities.errors import InputError, unknown
from stkd_lightning.utilities.files import check_writable

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
SUFFIXES = (".csv", ".json")


def check_export(config: DictConfig) -> None:
    """Refuse what ``export`` cannot do.

    Raises:
        InputError: an output folder that cannot be made, or a name that no repository has.
    """
    output = Path(validation.path("output", config.output))
    check_writable(output if output.is_dir() else output.absolute().parent)
    if output.exists() and not output.is_dir():
        raise InputError(f"output={output}: is a file; name a folder")
    if output.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise InputError(f"output={output}: is the folder that this runs in, or above it; name one in it")
    validation.switch("private", config.private)
    if config.data_dir is not None:
        validation.path("data_dir", config.data_dir)
    name = config.push_to_hub
    if name is not None and not (isinstance(name, str) and REPOSITORY.fullmatch(name)):
        raise InputError(f"push_to_hub={name}: must be OWNER/NAME, for example you/{output.name}")


def check_predict(config: DictConfig) -> None:
    """Refuse what ``predict`` cannot do.

    Raises:
        InputError: an image or folder that is not there, or an output file that cannot be written.
    """
    validation.whole("top", config.top, minimum=1)
    validation.whole("batch_size", config.batch_size, minimum=1)
    if config.device not in DEVICES:
        raise unknown("device", str(config.device), DEVICES)
    images: Any = config.images
    for place in images if isinstance(images, ListConfig) else [images]:
        if not Path(validation.path("images", place)).exists():
            raise InputError(f"images={place}: no such file or folder")
    if config.output is not None:
        output = Path(validation.path("output", config.output))
        if output.suffix not in SUFFIXES or output.is_dir():
            raise InputError(f"output={output}: must be a file that ends in .csv or .json")
        check_writable(output.absolute().parent)


def check_report(config: DictConfig) -> None:
    """Refuse what ``report`` cannot do.

    Raises:
        InputError: a folder of runs that is not there, or an output folder that cannot be made.
    """
    runs: Any = config.runs
    for place in runs if isinstance(runs, ListConfig) else [runs]:
        if not Path(validation.path("runs", place)).is_dir():
            raise InputError(f"runs: {place}: no such folder")
    for name in ("latency", "complete"):
        validation.switch(name, config[name])
    if config.output is not None:
        check_writable(Path(validation.path("output", config.output)))
