"""Whether a server can be used now, told within seconds."""

import ssl
import threading
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from urllib.error import HTTPError, URLError

SECONDS = 4.0


def unanswered(url: str, body: bytes | None = None, *, seconds: float = SECONDS) -> str | None:
    """Ask a server once.

    Args:
        url: where to ask.
        body: JSON that is posted; ``None`` gets.
        seconds: after which it counts as not answering, whatever it is that takes so long.

    Returns:
        Why it cannot be used; ``None`` if it answers, though it may still refuse what it is asked.
    """
    fault: list[str | None] = []
    # A socket's time limit does not hold while its name is looked up, nor for an answer that comes byte by byte.
    thread = threading.Thread(target=lambda: fault.append(_ask(url, body, seconds)), daemon=True)
    thread.start()
    thread.join(seconds)
    return fault[0] if fault else f"no answer in {seconds:g} s"


def _ask(url: str, body: bytes | None, seconds: float) -> str | None:
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=seconds).close()
    except HTTPError as error:
        return f"HTTP {error.code}" if error.code >= 500 else None
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLError):
            return None  # somebody is there, and whose certificates count is not for us to know
        if isinstance(reason, TimeoutError):
            return f"no answer in {seconds:g} s"
        return str(getattr(reason, "strerror", None) or reason)
    return None


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
