"""Deterministic features, and the properties that losses between two tensors share."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from stkd_lightning.models import NetworkInspector, create_model
from stkd_lightning.tasks.types import ModelOutput

Function = Callable[[Tensor, Tensor], Tensor]
Loops = Callable[[Tensor, Tensor], float]


def waves(*shape: int, phase: float = 0.0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return ``sin(0.7 i + phase) + 0.5 cos(0.13 i**2 mod 6.28 + phase)``, i counted over all elements."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    values = torch.sin(0.7 * i + phase) + 0.5 * torch.cos((0.13 * i**2) % 6.28 + phase)
    return values.reshape(shape).to(dtype)


def check_gradient(function: Function, student: Tensor, teacher: Tensor) -> None:
    """The gradient is that of finite differences, and none reaches the teacher."""
    student = student.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: function(s, teacher), student)
    teacher = teacher.clone().requires_grad_()
    function(student, teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None


def check_order(function: Function, student: Tensor, teacher: Tensor) -> None:
    """Samples in another order give the same loss."""
    order = torch.randperm(len(student), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        function(student[order], teacher[order]), function(student, teacher), rtol=1e-10, atol=1e-12
    )


def check_half_precision(
    function: Function, student: Tensor, teacher: Tensor, *, relative: float = 0.05, absolute: float = 1e-3
) -> None:
    """Half precision is raised before the first operation, also under autocast, and costs no more than its rounding."""
    exact = function(student.float(), teacher.float())
    for dtype in (torch.bfloat16, torch.float16):
        half = student.to(dtype), teacher.to(dtype)
        rounded = function(half[0].float(), half[1].float())
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                value = function(*half)
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, rounded, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(value, exact, rtol=relative, atol=absolute)


def check_definition(
    function: Function,
    by_loops: Loops,
    student: Tensor,
    teacher: Tensor,
    *,
    relative: float = 1e-10,
    rounding: float | None = None,
) -> None:
    """The value is that of the loops, in float64 and, to its rounding, in float32."""
    expected = by_loops(student, teacher)
    assert float(function(student, teacher)) == pytest.approx(expected, rel=relative)
    assert float(function(student.float(), teacher.float())) == pytest.approx(expected, rel=1e-5, abs=rounding)


def check_finite(function: Function, student: Tensor, teacher: Tensor) -> None:
    """The value and the gradient are finite."""
    student = student.clone().requires_grad_()
    value = function(student, teacher)
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def orthogonal(width: int) -> Tensor:
    """Return a matrix ``(width, width)`` that turns vectors and keeps their lengths."""
    return torch.linalg.qr(waves(width, width))[0]


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    """Return the inner product by a loop."""
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def unit(values: Sequence[float]) -> list[float]:
    """Return a vector divided by its length; zero as it is."""
    length = math.hypot(*values)
    return [value / length if length else 0.0 for value in values]


def cells(channel: Sequence[Sequence[float]], height: int, width: int) -> list[float]:
    """Return the averages of a map over ``height * width`` cells, which overlap where its sides are no multiples."""

    def span(i: int, parts: int, length: int) -> range:
        return range(math.floor(i * length / parts), math.ceil((i + 1) * length / parts))

    averages = []
    for i in range(height):
        for j in range(width):
            rows, columns = span(i, height, len(channel)), span(j, width, len(channel[0]))
            averages.append(math.fsum(channel[y][x] for y in rows for x in columns) / (len(rows) * len(columns)))
    return averages


def probes(student: str = "resnet8", teacher: str = "resnet14") -> tuple[NetworkInspector, NetworkInspector]:
    """Return two networks of the zoo as a loss sees them, on 8x8 pixels."""
    image = waves(1, 3, 8, 8, dtype=torch.float32)
    return NetworkInspector(create_model(student, num_classes=10), image), NetworkInspector(
        create_model(teacher, num_classes=10), image
    )


def output(**features: Tensor) -> ModelOutput:
    """Return what a network says whose inner modules have these outputs."""
    batch = len(next(iter(features.values())))
    return ModelOutput(torch.zeros(batch, 10), features)
