"""A whole step as one call, which a GPU records in one graph."""

from pathlib import Path
from typing import Any

import pytest
import torch

from stkd_lightning.distillation import epoch_steps
from stkd_lightning.distillation.traced_step import NamedValues
from stkd_lightning.distillation.whole_step import WholeStep, can_record
from tests.distillation.test_traced_step import STKDLoss, traced_on_cpus, trained

__all__ = ["traced_on_cpus"]


def test_a_whole_step_equals_backward_and_step() -> None:
    start = torch.randn(3)
    results = []
    for whole in (True, False):
        weight = torch.nn.Parameter(start.clone())
        optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)

        def terms(weight: torch.nn.Parameter = weight) -> NamedValues:
            return ("square", "sum"), torch.stack([weight.square().sum(), weight.sum()])

        step = WholeStep(terms, optimizer)
        for _ in range(5):
            if whole:
                names, values = step()
                assert names == ("square", "sum")
                assert not values.requires_grad
            else:
                optimizer.zero_grad()
                terms()[1].sum().backward()
                optimizer.step()
            schedule.step()
            assert isinstance(optimizer.param_groups[0]["lr"], float)  # also in checkpoints
        results.append(weight.detach())
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


def test_groups_step_at_rates_of_their_own() -> None:
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    optimizer = torch.optim.SGD(weights[:1], lr=0.1, fused=True)
    optimizer.add_param_group({"params": weights[1:], "lr": 0.01})
    assert can_record(optimizer)
    WholeStep(lambda: (("sum",), torch.stack([weights[0].sum() + weights[1].sum()])), optimizer)()
    torch.testing.assert_close([w.detach() for w in weights], [torch.full((2,), 0.9), torch.full((2,), 0.99)])


def test_only_a_fused_sgd_is_recorded() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    assert can_record(torch.optim.SGD(parameters, lr=0.1, fused=True))
    assert not can_record(torch.optim.SGD(parameters, lr=0.1))
    assert not can_record(torch.optim.AdamW(parameters, lr=0.1, fused=True))


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-4), ("bf16-mixed", 0.02)])
def test_a_training_by_whole_steps_equals_one_by_parts(
    precision: str, tolerance: float, tmp_path: Path, traced_on_cpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[WholeStep] = []
    call = WholeStep.__call__

    def counted(step: WholeStep) -> NamedValues:
        calls.append(step)
        return call(step)

    monkeypatch.setattr(WholeStep, "__call__", counted)
    options: dict[str, Any] = {"loss": STKDLoss(), "trainer_options": {"log_every_n_steps": 2, "precision": precision}}
    whole = trained(tmp_path, cuda_graph=True, **options)
    assert len(calls) == 12  # two epochs of six batches
    monkeypatch.setattr(epoch_steps, "TRACED_DEVICES", ())
    by_parts = trained(tmp_path, **options)
    assert len(calls) == 12
    for name, value in whole.items():
        torch.testing.assert_close(value, by_parts[name], rtol=tolerance, atol=tolerance / 10)
