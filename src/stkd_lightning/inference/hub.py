"""Upload an export to the Hugging Face hub, or to a compatible server (``HF_ENDPOINT``)."""

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

from stkd_lightning.utilities.errors import InputError, RunError, reason

LOG_IN = "log in with hf auth login, or set HF_TOKEN to a token with write access"
REFUSALS = (401, 403)


def check_hub(repository: str) -> None:
    """Refuse an upload that cannot succeed, before anything is written.

    Args:
        repository: ``owner/name``.

    Raises:
        InputError: huggingface_hub is not installed, there is no token, or the name is not valid.
    """
    hub = _hub()
    try:
        import_module("huggingface_hub.utils").validate_repo_id(repository)
    except ValueError as error:
        raise InputError(f"push_to_hub={repository}: {reason(error)}") from error
    if not hub.get_token():
        raise InputError(f"push_to_hub={repository}: no token for {hub.HfApi().endpoint}; {LOG_IN}")


def push(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder as a model repository; create the repository if it does not exist.

    Args:
        folder: of an export.
        repository: ``owner/name``.
        private: whether a new repository is private; an existing repository keeps its visibility.

    Returns:
        The repository's address.

    Raises:
        InputError: the server refuses the token or the name.
        RunError: the server cannot be reached, or reports a fault.
    """
    hub = _hub()
    api = hub.HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload a student of stkd-lightning")
    except Exception as error:  # the hub's client and its HTTP libraries have many types
        raise _refused(error, f"push_to_hub={repository}: {api.endpoint}", f"the export is in {folder}") from error
    return str(address)


def _refused(error: Exception, place: str, kept: str) -> Exception:
    """Return the error for a user; the client's own message may contain the token."""
    response: Any = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status in REFUSALS:
        return InputError(f"{place} refused it ({status}); {LOG_IN}; {kept}")
    if status is not None:
        message = getattr(error, "server_message", None)
        return RunError(f"{place} answered {status}{f', {message}' if message else ''}; {kept}", passes=False)
    return RunError(f"{place}: {type(error).__name__}: {reason(error)}; {kept}", passes=False)


def _hub() -> Any:
    for library in ("httpx", "httpx2"):  # its HTTP libraries, which log every request
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        return import_module("huggingface_hub")
    except ImportError as error:
        raise InputError("push_to_hub: huggingface_hub is not installed: pip install 'stkd-lightning[hub]'") from error
