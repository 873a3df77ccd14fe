"""The teacher answers several batches at once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from stkd_lightning.data import DigitsDataModule
from stkd_lightning.losses import SPLoss, STKDLoss
from stkd_lightning.tasks.types import StepContext
from stkd_lightning.utilities.errors import InputError
from tests.distillation.test_traced_step import loader, module, trainer


def terms(look_ahead: int, loss: Any, order: list[int]) -> dict[int, torch.Tensor]:
    distillation = module(loss, look_ahead=look_ahead).eval()
    batches = list(loader())
    return {i: torch.stack(list(distillation.terms(batches[i], StepContext(0, 1, i)).values())).detach() for i in order}


@pytest.mark.parametrize("look_ahead", [2, 3, 16])
@pytest.mark.parametrize("loss", [STKDLoss, SPLoss])
def test_look_ahead_gives_the_terms_of_single_batches(look_ahead: int, loss: type[Any]) -> None:
    single, ahead = (terms(steps, loss(), list(range(10))) for steps in (1, look_ahead))
    for i, expected in single.items():
        torch.testing.assert_close(ahead[i], expected)


def test_groups_do_not_depend_on_the_first_batch() -> None:
    """A resumed run begins within a group."""
    whole, rest = terms(4, STKDLoss(), list(range(10))), terms(4, STKDLoss(), [6, 7, 8, 9])
    for i, values in rest.items():
        assert torch.equal(values, whole[i])


def test_the_teacher_runs_once_for_a_group() -> None:
    distillation = module(STKDLoss(), look_ahead=4)
    assert distillation.teacher is not None
    sizes: list[int] = []
    copy = distillation.teacher.copy_for(torch.zeros(2, 3, 8, 8))
    copy._tap.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    for i, batch in enumerate(loader()):
        distillation.terms(batch, StepContext(0, 1, i))
    assert sizes == [32, 32, 32]  # of 10 batches of 8; the last batch is repeated


def test_look_ahead_needs_resident_data(tmp_path: Path) -> None:
    data = DataLoader(TensorDataset(torch.rand(8, 3, 8, 8), torch.arange(8)), batch_size=4)
    with pytest.raises(InputError, match="teacher.look_ahead=2: needs a data module of this project"):
        trainer(tmp_path).fit(module(STKDLoss(), look_ahead=2), data)
    with pytest.raises(InputError, match="teacher.look_ahead=0: must be a whole number of at least 1"):
        module(STKDLoss(), look_ahead=0)


def test_another_training_has_other_groups(tmp_path: Path) -> None:
    """The second training of a module begins at the same place of an epoch, with other data."""
    distillation = module(STKDLoss(), look_ahead=4)
    seen: list[torch.Tensor] = []
    make = distillation.virtual
    for seed in (0, 1):
        trainer(tmp_path, max_epochs=1, limit_train_batches=3).fit(distillation, DigitsDataModule(seed=seed))
        batch = next(iter(DigitsDataModule(seed=seed).train_dataloader()))
        distillation.terms(batch, StepContext(0, 1, 0))
        assert distillation._step._look_ahead is not None
        group = distillation._step._look_ahead.group(batch, StepContext(0, 1, 0))
        assert torch.equal(group.batches[0].inputs, make(batch, StepContext(0, 1, 0)).inputs)
        seen.append(group.batches[0].inputs)
    assert not torch.equal(*seen)
