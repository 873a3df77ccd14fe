"""A student that starts from weights of a file: complete its options."""

import hashlib
from pathlib import Path

from omegaconf import DictConfig

from stkd_lightning.commands.config.compose import with_values


def complete_student(settings: DictConfig) -> DictConfig:
    """Return settings with the digest of the file from which the student starts; it belongs to the run's identity."""
    checkpoint = settings.student.get("checkpoint")
    digest = None if checkpoint is None else hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    return with_values(settings, {"student.checkpoint_digest": digest})
