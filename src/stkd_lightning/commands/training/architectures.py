"""Networks of Hugging Face: record what they are built from, so that no later command needs the hub or the folder."""

import hashlib
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.config.compose import with_values
from stkd_lightning.commands.config.teachers import teachers_of
from stkd_lightning.inference.trust import HUGGING_FACE
from stkd_lightning.models.adapters.huggingface import architecture, is_folder


def complete_architectures(settings: DictConfig) -> DictConfig:
    """Return settings with the configuration and the revision of each network of Hugging Face.

    Raises:
        InputError: nothing can be read by a network's name.
    """
    names = ["student", *(f"{name}.network" for name, _ in teachers_of(settings))]
    values: dict[str, Any] = {}
    for name in names:
        node = OmegaConf.select(settings, name)
        if node.get("_target_") == HUGGING_FACE and node.config is None:
            values[f"{name}.config"], commit = architecture(node.name, node.revision)
            digest = _digest(node.name) if node.pretrained and is_folder(node.name) else None
            values[f"{name}.revision"] = commit or digest or node.revision
    return with_values(settings, values)


def _digest(folder: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(folder).expanduser().glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
