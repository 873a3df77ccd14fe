"""Teacher outputs of a run: cached in memory up to a limit, stored on disk beyond it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stkd_lightning.tasks.types import Batch
from stkd_lightning.teacher import FrozenTeacher
from stkd_lightning.teacher import outputs as module
from stkd_lightning.teacher.outputs import TeacherOutputs


class PerPixel(nn.Module):
    """Logits ``(B, 5, H, W)``."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Conv2d(3, 5, 1), 0

    def __deepcopy__(self, memo: object) -> "PerPixel":
        return self  # the inference copy counts its calls here

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(images)


BATCHES = [Batch(torch.randn(4, 3, 6, 8), torch.zeros(4, dtype=torch.int64), torch.arange(4) + 4 * i) for i in (0, 1)]
BYTES = 4 * 5 * 6 * 8 * 4  # of one batch's logits


def evaluate(outputs: TeacherOutputs, batches: list[Batch]) -> list[Tensor]:
    outputs.begin_evaluation("val", [len(batches)])
    logits = [outputs.evaluation_logits(batch, "val", 0, i) for i, batch in enumerate(batches)]
    outputs.end_evaluation()
    return logits


@pytest.mark.parametrize(("limit", "calls"), [(2 * BYTES, 0), (BYTES, 1), (BYTES - 1, 2)])
def test_outputs_cache_evaluation_logits_up_to_the_limit(
    limit: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEMORY_LIMIT", limit)
    network = PerPixel()
    outputs = TeacherOutputs(FrozenTeacher(network))
    first = evaluate(outputs, BATCHES)
    before = network.calls
    second = evaluate(outputs, BATCHES)
    assert network.calls - before == calls
    assert all(map(torch.equal, first, second))


def test_outputs_cache_no_batch_of_other_samples() -> None:
    network = PerPixel()
    outputs = TeacherOutputs(FrozenTeacher(network))
    first = evaluate(outputs, BATCHES)
    swapped = evaluate(outputs, BATCHES[::-1])
    assert torch.equal(first[0], swapped[1])
    assert torch.equal(first[1], swapped[0])
    assert outputs._cached_bytes == 2 * BYTES


def test_outputs_read_from_disk_what_memory_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEMORY_LIMIT", BYTES)
    network = PerPixel()
    outputs = TeacherOutputs(FrozenTeacher(network), tmp_path / "replay")
    first = evaluate(outputs, BATCHES)
    before = network.calls
    second = evaluate(outputs, BATCHES)
    assert network.calls == before
    assert all(map(torch.equal, first, second))
