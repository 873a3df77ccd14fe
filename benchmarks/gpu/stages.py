"""The stages of the queue, in their order."""

from functools import partial

from gpu import check, evidence, speed, teachers
from gpu.budget import Budget
from gpu.carry import lay_out
from gpu.places import Places
from gpu.queue import Stage
from gpu.sizes import Sizes

NAMES = ("check", "speed", "teachers", "evidence")


def stages(sizes: Sizes, places: Places, budget: Budget) -> list[Stage]:
    """Return all stages; measurements and teachers run alone, checks at once, runs as many at once as is fastest."""
    data = partial(lay_out, places)
    return [
        Stage("check", check.items(sizes, places), width=sizes.width),
        Stage("speed", speed.items(sizes)),
        Stage("teachers", teachers.items(sizes, places, budget), prepare=data),
        Stage("evidence", evidence.items(sizes, places), speed.best_width(places.results, sizes), data),
    ]
