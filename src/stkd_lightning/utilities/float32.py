"""Float32 arithmetic without TF32, which cuDNN's convolutions use by default."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

T = TypeVar("T")


@contextmanager
def exact_float32(*, unless_asked: bool = False) -> Iterator[None]:
    """Compute float32 in float32 inside the block: without TF32 on GPUs, and without bfloat16 on CPUs.

    torch has older and, since 2.9, newer settings for it, and raises errors where they disagree. So all of them are
    set, and restored after the block.

    Args:
        unless_asked: change nothing after ``torch.set_float32_matmul_precision("high")`` or ``"medium"``.
    """
    if unless_asked and _or_default(torch.get_float32_matmul_precision, "high") != "highest":
        yield
        return
    matmul = _or_default(torch.get_float32_matmul_precision, "highest")
    convolution = _or_default(lambda: torch.backends.cudnn.allow_tf32, True)
    newer = [(operation, operation.fp32_precision) for operation in _newer_settings()]
    _set_older(matmul="highest", convolution=False)
    for operation, _ in newer:
        operation.fp32_precision = "ieee"
    try:
        yield
    finally:
        _set_older(matmul=matmul, convolution=convolution)
        for operation, precision in newer:
            operation.fp32_precision = precision


def _or_default(read: Callable[[], T], default: T) -> T:
    """Return an older setting; the default if newer settings disagree with it, which reading it refuses."""
    try:
        return read()
    except RuntimeError:
        return default


def _set_older(*, matmul: str, convolution: bool) -> None:
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = convolution


def _newer_settings() -> list[Any]:
    """Return the objects of torch's newer settings; none before torch 2.9."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    if not hasattr(cudnn, "conv"):
        return []
    return [cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv]
