"""Read many files on several threads and name several that are refused in one error."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from stkd_lightning.utilities.errors import InputError

SHOWN = 3  # files in a message

S = TypeVar("S")
T = TypeVar("T")


def read_in_order(
    read: Callable[[S], T], items: Sequence[S], *, chunk: int, description: str, unit: str = "image"
) -> Iterator[T]:
    """Yield what is read from each item, in order, on several threads.

    Args:
        read: raises an ``InputError`` for an item that is refused.
        items: to read.
        chunk: results that are in memory at once.
        description: for messages and beside the progress bar.
        unit: word for an item, beside the progress bar.

    Raises:
        InputError: some items are refused; names the first of them. Items before the first were yielded.
    """

    def attempt(item: S) -> T | InputError:
        try:
            return read(item)
        except InputError as error:
            return InputError(str(error))  # without the frames that hold its content

    errors: list[InputError] = []
    with (
        ThreadPoolExecutor() as pool,
        tqdm(total=len(items), desc=description, unit=unit, leave=False, disable=None) as bar,
    ):
        for first in range(0, len(items), chunk):
            with warnings.catch_warnings():  # a damaged image is named with its error
                warnings.filterwarnings("ignore", module="PIL")
                results = list(pool.map(attempt, items[first : first + chunk]))
            for result in results:
                if isinstance(result, InputError):
                    errors.append(result)
                elif not errors:
                    yield result
            if len(errors) >= SHOWN:
                break
            bar.update(len(results))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        texts = "; ".join(str(error) for error in errors[:SHOWN])
        more = "; later files are not checked" if len(errors) >= SHOWN else ""
        raise InputError(f"{description}: several files are refused: {texts}{more}")
