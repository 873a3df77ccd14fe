"""Sizes of the queue's work: whole on a GPU, or in miniature to try the queue on a CPU."""

from dataclasses import dataclass
from pathlib import Path

PAIRS = (("resnet32x4", "resnet8x4"), ("resnet56", "resnet20"))
B = Path(__file__).parents[1] / "tables" / "B.yaml"


@dataclass(frozen=True)
class Recipe:
    """A schedule of a teacher's training.

    Attributes:
        name: name in the teacher's record.
        epochs: number of epochs.
        settings: options of the train command.
        pace: duration of an epoch as a multiple of the duration with batches of 256.
    """

    name: str
    epochs: int
    settings: tuple[str, ...] = ()
    pace: float = 1.0


LITERATURE = Recipe("the literature's 240 epochs", 240, pace=1.4)  # batches of 64
ONE_CYCLE = Recipe(
    "100 epochs, one cycle",
    100,
    ("scheduler=cosine", "scheduler.warmup=0.2", "dataset.batch_size=256", "optimizer.lr=0.2"),
)


@dataclass(frozen=True)
class Sizes:
    """Sizes of all stages.

    Attributes:
        epochs: of the train commands that are interrupted and replayed.
        compiles: networks are compiled.
        pairs: teacher and student of the measured trainings.
        batches: batch sizes of the measured trainings.
        measured: names of the rows that are measured; empty: all.
        warm_up: steps before a measurement.
        rounds: rounds of a measurement.
        round_seconds: seconds of a round.
        together: numbers of trainings at once.
        width: number of checks at once.
        seconds: expected duration of an item, as a share of that on a GPU.
        teachers: teachers in the order of their worth, with the seconds of an epoch in batches of 256: a third of those
            of an H200 that trained three at once.
        recipes: recipes of teachers; the first that fits is taken.
        table: file of the table of the evidence.
        parts: parts of the table that come first.
        rows: rows of the table that come first in these parts.
        extra: options of every training on images of CIFAR-100.
    """

    epochs: int = 40
    compiles: bool = True
    pairs: tuple[tuple[str, str], ...] = PAIRS
    batches: tuple[int, ...] = (64, 512)
    measured: tuple[str, ...] = ()
    warm_up: int = 20
    rounds: int = 3
    round_seconds: float = 1.5
    together: tuple[int, ...] = (2, 4)
    width: int = 7
    seconds: float = 1.0
    teachers: tuple[tuple[str, float], ...] = (("resnet32x4", 1.6), ("wrn_40_2", 1.2), ("resnet56", 1.4))
    recipes: tuple[Recipe, ...] = (LITERATURE, ONE_CYCLE)
    table: Path = B
    parts: tuple[str, ...] = ("resnet32x4_resnet8x4", "wrn_40_2_wrn_16_2", "resnet32x4_ShuffleV2")
    rows: tuple[str, ...] = ("KD", "STKD with mixup.alpha 1", "STKD", "CE")
    extra: tuple[str, ...] = ()


WHOLE = Sizes()
MINIATURE = Sizes(
    epochs=2,
    compiles=False,
    pairs=(("resnet14", "resnet8"),),
    batches=(8,),
    measured=("one graph", "ours, replay"),
    warm_up=2,
    rounds=1,
    round_seconds=0.1,
    together=(2,),
    width=2,
    seconds=0.2,
    teachers=(("resnet8", 0.1),),
    recipes=(Recipe("1 epoch", 1),),
    table=Path(__file__).with_name("miniature.yaml"),
    parts=(),
    rows=(),
    extra=("precision=32-true", "compile=false", "diagnostics=false"),
)
