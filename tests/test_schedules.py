import math

import pytest

from stkd_lightning.schedules import Cosine, MultiStep, Polynomial
from stkd_lightning.utilities.errors import InputError


def test_default_steps_are_those_of_240_epochs_at_any_length() -> None:
    schedule = MultiStep()
    for steps_per_epoch, epochs in ((703, 240), (7, 8), (1, 16)):
        total = steps_per_epoch * epochs
        factors = [schedule(step / total) for step in range(total)]
        for share, before, after in ((0.625, 1.0, 0.1), (0.75, 0.1, 0.01), (0.875, 0.01, 0.001)):
            first = math.ceil(share * total)
            assert factors[first - 1] == pytest.approx(before)
            assert factors[first] == pytest.approx(after)


def test_cosine_falls_from_one_to_its_end() -> None:
    schedule = Cosine(final=0.1)
    assert schedule(0.0) == 1.0
    assert schedule(0.5) == pytest.approx(0.55)
    assert schedule(1.0) == pytest.approx(0.1)


def test_polynomial_falls_by_a_power_of_the_rest() -> None:
    schedule = Polynomial(power=2, warmup=0.2)
    assert schedule(0.2) == 1.0
    assert schedule(0.6) == pytest.approx(0.25)
    assert schedule(1.0) == 0.0


@pytest.mark.parametrize("schedule", [MultiStep(warmup=0.1), Cosine(warmup=0.1), Polynomial(warmup=0.1)])
def test_warm_up_rises_linearly(schedule: MultiStep | Cosine | Polynomial) -> None:
    assert [schedule(p) for p in (0.0, 0.05, 0.1)] == pytest.approx([0.0, 0.5, 1.0])


def test_errors() -> None:
    with pytest.raises(InputError, match="150 is not a share of the run"):
        MultiStep(milestones=[150, 180])
    with pytest.raises(InputError, match="scheduler.gamma=0"):
        MultiStep(gamma=0)
    with pytest.raises(InputError, match="scheduler.final=2"):
        Cosine(final=2)
    with pytest.raises(InputError, match="scheduler.power=0"):
        Polynomial(power=0)
