"""Calls that must not keep a run waiting, however long they take."""

import threading
from collections.abc import Callable


def bounded(call: Callable[[], object], seconds: float) -> None:
    """Do something in the background and wait for it for a while; with 0 seconds not at all, nor for its exceptions.

    Raises:
        TimeoutError: it takes longer; it goes on as long as the process does.
        Exception: what it raises itself.
    """
    raised: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:  # raised again where it is waited for
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if not seconds:
        return
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer in {seconds:g} s")
    if raised:
        raise raised[0]
