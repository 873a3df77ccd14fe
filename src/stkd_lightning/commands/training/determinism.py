"""The choice between reproducible and fastest kernels on a GPU, made once for a run."""

import os
from typing import Literal

import torch


def set_determinism(setting: bool | Literal["auto"]) -> None:
    """Set for this process how torch chooses among kernels; options of the trainer, set later, come before it.

    Args:
        setting: ``"auto"``: cuDNN's deterministic kernels, chosen without measuring. ``True``: also an error for each
            operation without a deterministic kernel, as in Lightning. ``False``: cuDNN measures and takes the fastest.
    """
    torch.backends.cudnn.deterministic = setting is not False
    torch.backends.cudnn.benchmark = setting is False
    torch.use_deterministic_algorithms(setting is True)
    if setting is True:
        # https://docs.nvidia.com/cuda/cublas/index.html#results-reproducibility
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
