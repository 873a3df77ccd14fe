import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stkd_lightning.losses.functional import warmup_factor
from stkd_lightning.tasks.types import StepContext


def at(epoch: int, epochs: int) -> StepContext:
    return StepContext(epoch, epochs, step=0)


def test_the_published_recipe() -> None:
    """Epoch i of 20, counted from 1, has the factor i / 20; the other 220 have 1."""
    factors = [warmup_factor(at(epoch, 240), 20 / 240) for epoch in range(240)]
    assert factors == pytest.approx([i / 20 for i in range(1, 21)] + [1.0] * 220)


def test_without_a_warm_up_or_a_context_the_factor_is_1() -> None:
    assert warmup_factor(at(0, 240), 0.0) == 1.0
    assert warmup_factor(None, 0.5) == 1.0


def test_a_warm_up_over_the_whole_run_ends_with_it() -> None:
    assert [warmup_factor(at(epoch, 4), 1.0) for epoch in range(4)] == [0.25, 0.5, 0.75, 1.0]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.floats(0, 1))
def test_it_never_falls_and_ends_at_1(epochs: int, share: float) -> None:
    factors = [warmup_factor(at(epoch, epochs), share) for epoch in range(epochs)]
    assert factors == sorted(factors)
    assert 0 < factors[0] <= factors[-1] == pytest.approx(1.0)
