"""Read weights from checkpoints of many projects; no code in them is run."""

import argparse
import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stkd_lightning.models.checkpoint_file import check_seal
from stkd_lightning.models.checkpoint_parts import Part, StateDict, distinct, fitting, mismatch, parts_of
from stkd_lightning.models.pickle_depth import check_depth
from stkd_lightning.models.plain_data import placeholders
from stkd_lightning.models.tensor_checks import converted, is_plain, kind_of
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.files import check_exists

LEGACY_PICKLES = 5  # at the start of a file in torch's format before 1.6
SHOWN = 4  # keys in a message
LARGEST_RECORD = 1 << 24  # bytes of an archive's record of names and values; reading more would take many seconds


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint file to CPU memory as plain containers and tensors.

    Args:
        path: ``.safetensors``, or a file of ``torch.save``, which is read with ``weights_only=True``.

    Raises:
        InputError: a missing or damaged file, or a file with more than tensors and plain values.
    """
    path = Path(path).expanduser()
    check_exists(path)
    try:
        check_seal(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        _check_structure(path)
        # RepDistiller's "*_last.pth" has its options in a Namespace, which is plain data.
        with torch.serialization.safe_globals([argparse.Namespace, *placeholders()]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        match = re.search(r"Unsupported (global|class)[^\n]*", str(error))
        if match is None:
            raise InputError(f"checkpoint {path}: damaged or not a checkpoint of plain weights") from error
        words = match[0].split(" was not ")[0][:200]
        raise InputError(f"checkpoint {path}: refused, because it holds more than weights: {words}") from error
    except Exception as error:  # torch and safetensors raise many types for a damaged file
        raise InputError(f"checkpoint {path}: damaged or not a checkpoint ({reason(error)})") from error
    if not isinstance(content, Mapping):
        raise InputError(f"checkpoint {path}: holds a {type(content).__name__}, not a state_dict")
    return dict(content)


def _check_structure(path: Path) -> None:
    """Refuse a file in torch's format that costs more than its size lets expect, or ends the process.

    Torch never writes a compressed archive, and would read all of its content to memory.

    Raises:
        InputError: a compressed archive, many values beside the tensors, or values nested too deeply.
        Exception: of any type; the file is damaged.
    """
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        for _ in range(0 if zipped else LEGACY_PICKLES):
            check_depth(file, f"checkpoint {path}")
    if zipped:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if sum(record.file_size for record in records) > path.stat().st_size:
                raise InputError(
                    f"checkpoint {path}: refused, its content is compressed; save it again with torch.save"
                )
            for record in records:
                if record.filename.endswith("data.pkl"):
                    if record.file_size > LARGEST_RECORD:
                        raise InputError(
                            f"checkpoint {path}: refused, it holds {record.file_size >> 20} MiB beside its tensors; "
                            "save the weights alone"
                        )
                    check_depth(io.BytesIO(archive.read(record)), f"checkpoint {path}")


def _torchdistill_wide_resnet(state: StateDict) -> StateDict:
    """Rename the keys of torchdistill's wide ResNet to the literature's names."""
    renamed = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        if head in ("layer1", "layer2", "layer3"):
            key = f"block{head[-1]}.layer.{rest}".replace("shortcut.0", "convShortcut")
        renamed[key] = value
    return renamed


def load_weights(network: nn.Module, path: str | Path, key: str | None = None) -> None:
    """Load a checkpoint of any of several projects into a network.

    Supported are checkpoints of this project and Lightning, ``.pth`` of RepDistiller and mdistiller, checkpoints of
    timm, bare state_dicts and ``.safetensors``: any file with one mapping of tensors, at its top or under one name,
    that has exactly the keys of the network with their shapes, below any prefix (old files may lack
    ``num_batches_tracked``). Of weights and their average, as timm saves it, the average is loaded. The architecture
    is never guessed.

    Args:
        network: receives the weights; it does not change if they do not fit.
        path: the checkpoint.
        key: name of the mapping in the file, and prefix of its keys, if several fit, for example ``"student"`` or
            ``"state_dict.teacher"``.

    Raises:
        InputError: a file that cannot be read, keys that do not fit (names them), several weights that fit, another
            number of classes, or tensors that are not weights: sparse, quantized, of whole numbers, not finite.

    Example:
        >>> import tempfile, torch
        >>> from stkd_lightning.models import create_model
        >>> from stkd_lightning.teacher import load_weights
        >>> trained, network = create_model("resnet8", num_classes=10), create_model("resnet8", num_classes=10)
        >>> with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        ...     torch.save({"model": trained.state_dict()}, file.name)
        ...     load_weights(network, file.name)
        >>> torch.equal(network.fc.weight, trained.fc.weight)
        True
    """
    load_content(network, read_checkpoint(path), path, key)


def load_content(network: nn.Module, content: Mapping[Any, Any], path: str | Path, key: str | None = None) -> None:
    """Load the content of a checkpoint; see ``load_weights``."""
    wanted = network.state_dict()
    state = fitting_state(network, content, path, key)
    values = {k: converted(f"checkpoint {path}: {k}", value, wanted[k]) for k, value in state.items()}
    network.load_state_dict({**wanted, **values})


def fitting_state(
    network: nn.Module, content: Mapping[Any, Any], path: str | Path, key: str | None = None
) -> StateDict:
    """Return the tensors of a checkpoint that fit a network, whose own tensors are not read.

    Raises:
        InputError: see ``load_weights``.
    """
    wanted, holds = network.state_dict(), f"the file holds {_some([str(name) for name in content]) or 'nothing'}"
    parts = parts_of(content)
    if key is not None:
        parts = [part for part in parts if part.is_below(key)]
        if not parts:
            raise InputError(f"checkpoint {path}: holds no tensors under {_brief(key)!r}; {holds}")
    if any(k.startswith("block1.layer.") for k in wanted):
        parts += [Part(part.place, _torchdistill_wide_resnet(part.state)) for part in parts]
    fits = fitting(parts, wanted)
    if not fits:
        best = min(parts, key=lambda part: part.distance(wanted), default=Part("", {}))
        raise InputError(f"{_explain(network, Path(path), wanted, best.state)}; {holds}")
    for part in fits:
        _check_plain(part.state, Path(path))
    fits = distinct([part for part in fits if part.place == key] or fits)
    if len(fits) > 1:
        places = " and ".join(part.place or "the keys at its top" for part in fits[:SHOWN])
        raise InputError(
            f"checkpoint {path}: {places} fit {type(network).__name__}; choose with "
            f"teacher.checkpoint_key={fits[0].place or fits[1].place}, with student.checkpoint_key=... for "
            f"student.checkpoint, or with +student.weights_key=... for student.weights; {holds}"
        )
    return fits[0].state


def _check_plain(state: StateDict, path: Path) -> None:
    """Refuse tensors that are not plain, or that need more memory than their file has content."""
    for key, value in state.items():
        if not is_plain(value):
            raise InputError(f"checkpoint {path}: {_brief(key)} is not a plain tensor but {kind_of(value)}")
    size = sum(value.numel() * value.element_size() for value in state.values())
    if path.exists() and size > 4 * path.stat().st_size + (1 << 26):
        raise InputError(f"checkpoint {path}: refused, its tensors repeat their content up to {size >> 20} MiB")


def _explain(network: nn.Module, path: Path, wanted: StateDict, state: StateDict) -> str:
    """Return the reason why a state_dict does not fit a network, in one line."""
    name = f"checkpoint {path}"
    missing, unexpected, reshaped = mismatch(wanted, state)
    last = [k for k in wanted if k.endswith("weight") and wanted[k].ndim == 2][-1:]
    classifier = [k for k in reshaped if k.rsplit(".", 1)[0] == (last[0].rsplit(".", 1)[0] if last else None)]
    only_classes = all(state[k].ndim == wanted[k].ndim and state[k].shape[1:] == wanted[k].shape[1:] for k in reshaped)
    if classifier and only_classes and len(classifier) == len(reshaped) and not missing and not unexpected:
        key = classifier[0]
        return f"{name}: made for {state[key].shape[0]} classes, the data has {wanted[key].shape[0]} ({key})"

    shapes = [f"{_brief(k)} {tuple(state[k].shape)} instead of {tuple(wanted[k].shape)}" for k in reshaped]
    parts = [f"missing {_some(missing)}"] * bool(missing) + [f"unexpected {_some(unexpected)}"] * bool(unexpected)
    parts += [f"other shapes {_some(shapes)}"] * bool(shapes)
    return f"{name}: does not fit {type(network).__name__}: {'; '.join(parts)}"


def _some(keys: list[str]) -> str:
    return ", ".join(map(_brief, keys[:SHOWN])) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


def _brief(key: str) -> str:
    return key if len(key) <= 100 else f"{key[:100]}..."
