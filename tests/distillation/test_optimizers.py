"""Fused optimizers: where they are used, and the clipping of their gradients."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torch.optim.optimizer import Optimizer

from stkd_lightning import DistillationModule
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.distillation.optimizers import can_fuse, cifar_sgd, with_rate_factors
from stkd_lightning.losses import CrossEntropyLoss
from stkd_lightning.models import AdaptedInput, InputSpec, create_model


def fitted(folder: Path, optimizer: Any, **options: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    module = DistillationModule(create_model("resnet8", num_classes=10), CrossEntropyLoss(), optimizer=optimizer)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=folder, limit_train_batches=4, **options,
    )  # fmt: skip
    trainer.fit(module, DigitsDataModule(validation_fraction=0))
    return module.student.state_dict()


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16-mixed"},
        {"precision": "bf16-mixed", "gradient_clip_algorithm": "value", "accumulate_grad_batches": 2},
        {"scaled": True},
        {"scaled": True, "gradient_clip_algorithm": "value", "accumulate_grad_batches": 2},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_clipping_of_a_fused_optimizer(options: dict[str, Any], tmp_path: Path) -> None:
    """Lightning by itself refuses; the weights are those of an optimizer that is not fused."""
    scaled = options.pop("scaled", False)
    folded = []
    for fused in (True, False):
        # On a GPU this is precision=16-mixed; on a CPU Lightning replaces it by bf16-mixed.
        plugins = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))] if scaled else None
        rate = {"lr": 0.1, "momentum": 0.9, "fused": fused}
        folded.append(
            fitted(
                tmp_path,
                lambda p, rate=rate: torch.optim.SGD(p, **rate),
                plugins=plugins,
                gradient_clip_val=0.01,
                **options,
            )
        )
    for name, value in folded[1].items():
        torch.testing.assert_close(folded[0][name], value, msg=name)


def test_clipping_limits_the_step(tmp_path: Path) -> None:
    def step(optimizer: Optimizer, *rest: Any) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))

    def optimizer(parameters: Any) -> Optimizer:
        made = torch.optim.SGD(parameters, lr=0.1, fused=True)
        made.register_step_post_hook(step)
        return made

    norms: list[float] = []
    fitted(tmp_path, optimizer, precision="bf16-mixed", gradient_clip_val=0.01)
    assert norms == pytest.approx([0.01] * 4, rel=1e-3)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (torch.zeros(2), True),
        (torch.zeros(2, dtype=torch.bfloat16), True),
        (torch.zeros(2, dtype=torch.complex64), False),
        (torch.zeros(2, device="meta"), False),
    ],
)
def test_cifar_sgd_is_fused_where_torch_can(weight: torch.Tensor, expected: bool) -> None:
    parameters = [nn.Parameter(torch.zeros(1)), nn.Parameter(weight)]
    assert can_fuse(parameters) == expected
    optimizer = cifar_sgd(iter(parameters))
    assert optimizer.param_groups[0]["fused"] is expected
    assert len(optimizer.param_groups[0]["params"]) == 2


class Slow(nn.Module):
    """Gives one of its children a rate of its own."""

    rate_factors = {"rest": 0.1}

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rest, self.fixed = nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 5).requires_grad_(False)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_groups_have_the_rates_that_a_student_declares(kind: Any, adapted: bool, fused: bool) -> None:
    student = Slow()
    network = AdaptedInput(student, InputSpec(), (0.5,) * 3, (0.5,) * 3) if adapted else student
    loss = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1), requires_grad=False)]

    def factory(parameters: Any) -> Optimizer:
        return kind(parameters, lr=0.5, weight_decay=0.25, fused=fused)

    optimizer = with_rate_factors(factory, network, loss)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, pytest.approx(0.05)]
    assert [group["params"] for group in optimizer.param_groups] == [
        [*student.first.parameters(), loss[0]],
        [*student.rest.parameters()],
    ]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.25}
    assert {group["fused"] for group in optimizer.param_groups} == {fused}


def test_groups_follow_the_schedule(tmp_path: Path) -> None:
    network = create_model("resnet8", num_classes=10)
    vars(network)["rate_factors"] = {"fc": 0.25}
    module = DistillationModule(network, CrossEntropyLoss(), schedule=lambda progress: 1 - progress / 2)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=tmp_path, limit_train_batches=2,
    )  # fmt: skip
    trainer.fit(module, DigitsDataModule(validation_fraction=0))
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates == pytest.approx([0.05 / 2, 0.25 * 0.05 / 2])
