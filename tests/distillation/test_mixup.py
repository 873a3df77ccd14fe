import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stkd_lightning import Mixup, StepContext
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.random import generator

HERE = StepContext(epoch=2, max_epochs=5, step=7)


def images(size: int) -> torch.Tensor:
    return torch.randn(size, 3, 4, 4, dtype=torch.float64)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 9),
    k=st.integers(2, 4),
    alpha=st.floats(0.05, 5),
    per_sample=st.booleans(),
    fraction=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_weights_are_convex_and_images_follow_them(
    size: int, k: int, alpha: float, per_sample: bool, fraction: float, seed: int
) -> None:
    mixup = Mixup(alpha, k=k, per_sample=per_sample, fraction=fraction, seed=seed)
    x, y = images(size), torch.arange(size)  # each sample its own label, so that labels name the partners
    virtual = mixup((x, y), HERE)
    weights = virtual.target.weights
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(size, dtype=weights.dtype))
    for i in range(size):
        expected = sum(w * x[j] for w, j in zip(weights[i], virtual.target.labels[i], strict=True))
        torch.testing.assert_close(virtual.images[i], expected)


def test_a_batch_shares_its_weights_unless_drawn_per_sample() -> None:
    x, y = images(16), torch.arange(16)
    shared = Mixup(seed=1)((x, y), HERE).target.weights
    own = Mixup(seed=1, per_sample=True)((x, y), HERE).target.weights
    assert len(shared.unique(dim=0)) == 1
    assert len(own.unique(dim=0)) == 16


def test_draws_are_a_function_of_seed_epoch_and_step() -> None:
    x, y = images(8), torch.arange(8)
    torch.manual_seed(1)
    one = Mixup(seed=3)((x, y), HERE)
    torch.manual_seed(2)
    again = Mixup(seed=3)((x, y), HERE)
    assert torch.equal(one.images, again.images)
    for other in (StepContext(3, 5, 7), StepContext(2, 5, 8)):
        assert not torch.equal(one.images, Mixup(seed=3)((x, y), other).images)
    assert not torch.equal(one.images, Mixup(seed=4)((x, y), HERE).images)
    assert not torch.equal(Mixup()((x, y)).images, Mixup()((x, y)).images)  # without a place: torch's generator


def test_two_ways_are_beta_distributed() -> None:
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1))."""
    for alpha in (0.2, 1.0, 3.0):
        _, weights, *_ = Mixup(alpha, per_sample=True).draw(20_000, np.random.default_rng(0))
        assert weights[:, 0].mean() == pytest.approx(0.5, abs=0.02)
        assert weights[:, 0].var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_k_ways_are_dirichlet_distributed() -> None:
    """The symmetric Dirichlet of k parts has mean 1/k and variance (k - 1) / (k^2 (k a + 1))."""
    _, weights, *_ = Mixup(2.0, k=3, per_sample=True).draw(20_000, np.random.default_rng(0))
    np.testing.assert_allclose(weights.mean(0), 1 / 3, atol=0.01)
    np.testing.assert_allclose(weights.var(0), 2 / (9 * 7), rtol=0.05)


def test_probability_is_of_batches_and_fraction_of_samples() -> None:
    mixup = Mixup(1.0, probability=0.3, fraction=0.5, per_sample=True)
    shares = [(mixup.draw(10, generator(0, "test", i))[1][:, 0] < 1).mean() for i in range(2_000)]
    assert set(shares) == {0.0, 0.5}
    assert np.mean(np.array(shares) > 0) == pytest.approx(0.3, abs=0.04)


def test_without_mixing_images_are_untouched() -> None:
    x, y = images(6), torch.arange(6)
    for mixup in (Mixup(probability=0), Mixup(fraction=0)):
        virtual = mixup((x, y), HERE)
        assert virtual.images is x
        assert torch.equal(virtual.target.labels, y[:, None])


def test_half_precision_images_keep_their_type() -> None:
    virtual = Mixup()((images(4).bfloat16(), torch.arange(4)), HERE)
    assert virtual.images.dtype == torch.bfloat16
    assert virtual.target.weights.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alpha": 0}, "mixup.alpha=0: must be above 0"),
        ({"k": 1}, "mixup.k=1: must be a whole number of at least 2"),
        ({"probability": 2}, "mixup.probability=2"),
        ({"fraction": -1}, "mixup.fraction=-1"),
        ({"seed": -1}, "mixup.seed=-1"),
    ],
)
def test_range_errors(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Mixup(**arguments)


def test_bytes_are_refused() -> None:
    with pytest.raises(InputError, match="mixup needs floating-point images"):
        Mixup()((torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])), HERE)


def test_batches_of_different_sizes_have_their_own_draws() -> None:
    """Draws are made for many batches at once, and do not depend on the batches before."""
    for order in ([(4, 0), (6, 1), (4, 2)], [(6, 1)], [(4, 2), (6, 1)]):
        mixup = Mixup(1.0, seed=2)
        for size, step in order:
            virtual = mixup((images(size), torch.arange(size)), StepContext(epoch=0, max_epochs=1, step=step))
            partners, weights, *_ = mixup.draw(size, generator(2, "mixup", 0, step))
            assert torch.equal(virtual.target.labels, torch.from_numpy(partners))
            torch.testing.assert_close(virtual.target.weights, torch.from_numpy(weights))
