from typing import Any

import pytest
import torch
from torchvision.transforms.v2 import RandAugment

from stkd_lightning import Batch, StepContext, StrongView
from stkd_lightning.data import DigitsDataModule
from stkd_lightning.data.batches import Normalize
from stkd_lightning.tasks import Segmentation
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.random import generator

HERE = StepContext(epoch=1, max_epochs=5, step=3)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
LEVELS = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_strong_views_are_randaugment_of_the_weak_ones() -> None:
    images = Normalize(MEAN, STD)(LEVELS)
    state = torch.get_rng_state()
    virtual = StrongView(mean=MEAN, std=STD, seed=2)((images, torch.arange(6)), HERE)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(virtual.inputs[:6], images)
    changed = 0
    for i, seed in enumerate(generator(2, "view", HERE.epoch, HERE.step).integers(2**62, size=6)):
        torch.manual_seed(int(seed))
        expected = RandAugment(2, 10)(LEVELS[i])
        torch.testing.assert_close(virtual.inputs[6 + i], Normalize(MEAN, STD)(expected[None])[0])
        changed += not torch.equal(expected, LEVELS[i])
    assert changed > 3
    assert virtual.target.labels.tolist() == [[i] for i in range(6)] * 2
    assert virtual.target.weights.tolist() == [[1.0]] * 12
    assert virtual.target.clean is not None
    assert virtual.target.clean.tolist() == [True] * 6 + [False] * 6


def test_draws_are_a_function_of_seed_epoch_and_step() -> None:
    batch = Normalize(MEAN, STD)(LEVELS), torch.arange(6)
    one = StrongView(mean=MEAN, std=STD)(batch, HERE).inputs
    assert torch.equal(one, StrongView(mean=MEAN, std=STD)(batch, HERE).inputs)
    for seed, place in ((1, HERE), (0, StepContext(2, 5, 3)), (0, StepContext(1, 5, 4))):
        assert not torch.equal(one, StrongView(mean=MEAN, std=STD, seed=seed)(batch, place).inputs)
    assert StrongView().rows(6) == 12


def test_views_of_resident_data() -> None:
    data = DigitsDataModule(batch_size=16)
    view = StrongView(mean=data.mean, std=data.std)
    for batch in data.train_dataloader():
        whole = view(batch, HERE).inputs
        assert torch.equal(whole, view(Batch(*batch), HERE).inputs)
        break


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"operations": 0}, "mixup.operations=0"),
        ({"magnitude": 31}, "mixup.magnitude=31"),
        ({"forwards": 3}, "mixup.forwards=3"),
        ({"mean": 0.5}, "mixup.mean=0.5: must be a list"),
    ],
)
def test_errors_of_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        StrongView(**options)


def test_errors_of_inputs() -> None:
    view = StrongView(mean=MEAN, std=STD)
    with pytest.raises(InputError, match="needs images with a label each, not clips"):
        view((torch.zeros(2, 100), torch.zeros(2, dtype=torch.int64)), HERE)
    masks = torch.zeros(2, 4, 4, dtype=torch.int64)
    with pytest.raises(InputError, match="or a label for each pixel"):
        view((torch.zeros(2, 3, 4, 4), masks), HERE, Segmentation(("a", "b")).target)
    with pytest.raises(InputError, match="mixup.mean and mixup.std need 3 numbers, one per channel"):
        StrongView(mean=(0.5,), std=(0.5,))((torch.zeros(2, 3, 4, 4), torch.arange(2)), HERE)
    with pytest.raises(InputError, match="StrongView: needs mean and std"):
        StrongView()((torch.zeros(2, 3, 4, 4), torch.arange(2)), HERE)
