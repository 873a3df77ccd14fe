"""Read weights from checkpoints of many projects; no code in them is run."""

import argparse
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stkd_lightning.models.checkpoint_file import check_seal
from stkd_lightning.models.tensor_checks import converted, is_plain, kind_of
from stkd_lightning.utilities.errors import InputError, reason
from stkd_lightning.utilities.files import check_exists

StateDict = dict[str, Tensor]
# Keys of the state_dict in checkpoints of this project, RepDistiller, mdistiller, Lightning and timm.
ENVELOPES = ("state_dict_ema", "model_ema", "state_dict", "model")
# Prefixes of the keys in a state_dict; the student is tried before the teacher.
PREFIXES = ("module.", "student.", "teacher.", "model.", "network.")
NESTED = 6  # largest number of prefixes before a key


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint file to CPU memory as plain containers and tensors.

    Args:
        path: ``.safetensors``, or a file of ``torch.save``, which is read with ``weights_only=True``.

    Raises:
        InputError: a missing or damaged file, or a file with more than tensors and plain values.
    """
    path = Path(path)
    check_exists(path)
    try:
        check_seal(path)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        _check_stored(path)
        # RepDistiller's "*_last.pth" has its options in a Namespace, which is plain data.
        with torch.serialization.safe_globals([argparse.Namespace]):
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


def _check_stored(path: Path) -> None:
    """Refuse a compressed archive: torch never writes one, and would read all of its content to memory."""
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if sum(record.file_size for record in archive.infolist()) > path.stat().st_size:
                raise InputError(
                    f"checkpoint {path}: refused, its content is compressed; save it again with torch.save"
                )


def unwrap(content: Mapping[Any, Any]) -> StateDict:
    """Return the state_dict of a checkpoint, without ``_orig_mod.`` in its keys."""
    inner: Mapping[Any, Any] = content
    for name in ENVELOPES:
        if isinstance(content.get(name), Mapping):
            inner = content[name]
            break
    named = ((k, v) for k, v in inner.items() if isinstance(k, str) and isinstance(v, Tensor))
    return {k.replace("_orig_mod.", ""): v for k, v in named}


def _stripped(state: StateDict, depth: int = NESTED) -> Iterable[StateDict]:
    """Yield the state_dict, then every part of it below a prefix of its keys, without this prefix."""
    yield state
    for prefix in PREFIXES if depth else ():
        below = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if below:
            yield from _stripped(below, depth - 1)


def _torchdistill_wide_resnet(state: StateDict) -> StateDict:
    """Rename the keys of torchdistill's wide ResNet to the literature's names."""
    renamed = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        if head in ("layer1", "layer2", "layer3"):
            key = f"block{head[-1]}.layer.{rest}".replace("shortcut.0", "convShortcut")
        renamed[key] = value
    return renamed


def _mismatch(network: StateDict, state: StateDict) -> tuple[list[str], list[str], list[str]]:
    missing = [k for k in network if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in network]
    reshaped = [k for k in network if k in state and network[k].shape != state[k].shape]
    return missing, unexpected, reshaped


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a checkpoint of any of several projects into a network.

    Supported are checkpoints of this project and Lightning, ``.pth`` of RepDistiller and mdistiller, checkpoints of
    timm, bare state_dicts and ``.safetensors``. The checkpoint must have exactly the keys of the network with their
    shapes (old files may lack ``num_batches_tracked``); the architecture is never guessed.

    Args:
        network: receives the weights; it does not change if they do not fit.
        path: the checkpoint.

    Raises:
        InputError: a file that cannot be read, keys that do not fit (names them), another number of classes, or
            tensors that are not weights: sparse, quantized, of whole numbers, not finite.

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
    wanted = network.state_dict()
    state = unwrap(read_checkpoint(path))
    for key, value in state.items():
        if not is_plain(value):
            raise InputError(f"checkpoint {path}: {_brief(key)} is not a plain tensor but {kind_of(value)}")
    candidates = list(_stripped(state))
    if any(k.startswith("block1.layer.") for k in wanted):
        candidates += [_torchdistill_wide_resnet(c) for c in candidates]
    best = min(candidates, key=lambda c: sum(map(len, _mismatch(wanted, c))))
    missing, unexpected, reshaped = _mismatch(wanted, best)
    if missing or unexpected or reshaped:
        raise InputError(_explain(network, Path(path), wanted, best, missing, unexpected, reshaped))
    fitting = {k: converted(f"checkpoint {path}: {k}", value, wanted[k]) for k, value in best.items()}
    network.load_state_dict({**wanted, **fitting})


def _explain(
    network: nn.Module,
    path: Path,
    wanted: StateDict,
    state: StateDict,
    missing: list[str],
    unexpected: list[str],
    reshaped: list[str],
) -> str:
    """Return the reason why a state_dict does not fit a network, in one line."""
    name = f"checkpoint {path}"
    last = [k for k in wanted if k.endswith("weight") and wanted[k].ndim == 2][-1:]
    classifier = [k for k in reshaped if k.rsplit(".", 1)[0] == (last[0].rsplit(".", 1)[0] if last else None)]
    only_classes = all(state[k].ndim == wanted[k].ndim and state[k].shape[1:] == wanted[k].shape[1:] for k in reshaped)
    if classifier and only_classes and len(classifier) == len(reshaped) and not missing and not unexpected:
        key = classifier[0]
        return f"{name}: made for {state[key].shape[0]} classes, the data has {wanted[key].shape[0]} ({key})"

    def some(keys: list[str]) -> str:
        return ", ".join(map(_brief, keys[:4])) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")

    shapes = [f"{_brief(k)} {tuple(state[k].shape)} instead of {tuple(wanted[k].shape)}" for k in reshaped]
    parts = [f"missing {some(missing)}"] * bool(missing) + [f"unexpected {some(unexpected)}"] * bool(unexpected)
    parts += [f"other shapes {some(shapes)}"] * bool(shapes)
    return f"{name}: does not fit {type(network).__name__}: {'; '.join(parts)}"


def _brief(key: str) -> str:
    return key if len(key) <= 100 else f"{key[:100]}..."
