"""Time limits for servers that do not answer, where W&B's and MLflow's own limits do not suffice.

W&B's ``init_timeout`` must also suffice for slow servers, so every run would wait that long for a dead one. W&B has no
time limit for ``log_artifact``. MLflow applies its limit to each try, and not to the lookup of the host name.
"""

import ssl
import threading
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from urllib.error import HTTPError, URLError

SECONDS = 4.0


def server_fault(url: str, body: bytes | None = None, *, seconds: float = SECONDS) -> str | None:
    """Send one request to a server and return why the server cannot be used.

    Args:
        url: address of the request.
        body: JSON to send by POST; ``None``: the request is a GET.
        seconds: time limit for the whole request, including the lookup of the host name.

    Returns:
        The reason; ``None`` if the server answers, even if it refuses this request.
    """
    fault: list[str | None] = []
    # A socket's time limit covers neither the lookup of the host name nor an answer that arrives byte by byte.
    thread = threading.Thread(target=lambda: fault.append(_request(url, body, seconds)), daemon=True)
    thread.start()
    thread.join(seconds)
    return fault[0] if fault else f"no answer in {seconds:g} s"


def _request(url: str, body: bytes | None, seconds: float) -> str | None:
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=seconds).close()
    except HTTPError as error:
        return f"HTTP {error.code}" if error.code >= 500 else None
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLError):
            return None  # a server answers; the library decides which certificates it accepts
        if isinstance(reason, TimeoutError):
            return f"no answer in {seconds:g} s"
        return str(getattr(reason, "strerror", None) or reason)
    return None


def call_with_timeout(call: Callable[[], object], seconds: float) -> None:
    """Make a call in a background thread and wait for its end.

    Args:
        call: function without arguments.
        seconds: time limit; 0: do not wait, and ignore exceptions.

    Raises:
        TimeoutError: the call takes longer; it continues in the background.
        Exception: any exception of the call.
    """
    raised: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:  # raised again in the waiting thread
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
