"""Random numbers as a function: a draw depends on the seed and its position in the run, not on earlier draws."""

import zlib

import numpy as np
from numpy.typing import NDArray


def generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """Return the generator of a position in a run; the same arguments always give the same draws.

    Args:
        seed: the run's seed, >= 0.
        purpose: name of the draw; draws of different purposes are independent.
        position: for example epoch and batch, >= 0.
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *position])


def sample_bits(seed: int, purpose: str, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return 64 random bits for each sample of an epoch, independent of batch, worker and rank.

    A counter-based generator: splitmix64's finalizer (Steele, Lea, Flood 2014, Fig. 16) of key + counter.

    Args:
        seed: the run's seed, >= 0.
        purpose: name of the draw.
        epoch: >= 0.
        samples: ``(B,)`` positions in the data set.

    Returns:
        ``(B,)`` uint64.
    """
    key = generator(seed, purpose, epoch).integers(2**64, dtype=np.uint64)
    bits = (samples.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + key
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def sample_uniforms(seed: int, purpose: str, epoch: int, samples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each sample of an epoch ``(B,)``; arguments as in ``sample_bits``."""
    return (sample_bits(seed, purpose, epoch, samples) >> np.uint64(11)) * 2.0**-53


def seeded(seed: int) -> None:
    """Seed the global generators, from which networks draw their first weights."""
    import lightning  # slow to import; the command line checks options before

    lightning.seed_everything(seed, verbose=False)
