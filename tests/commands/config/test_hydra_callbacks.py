"""Log records without credentials."""

import logging
from collections.abc import Iterator

import pytest

from stkd_lightning.commands.config.hydra_callbacks import hide_in_logs


@pytest.fixture
def factory() -> Iterator[None]:
    """Restore how ``logging`` makes records."""
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(logging.LogRecord)
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("factory")
def test_log_records_hide_credentials(caplog: pytest.LogCaptureFixture) -> None:
    hide_in_logs()
    logging.getLogger("hydra").warning("#0 : %s", "+db.password=zq7 seed=1")
    assert caplog.messages == ["#0 : +db.password=*** seed=1"]


@pytest.mark.usefixtures("factory")
def test_log_records_are_redacted_once() -> None:
    """Each job of a sweep asks for it, in one process or in several."""
    hide_in_logs()
    first = logging.getLogRecordFactory()
    hide_in_logs()
    assert logging.getLogRecordFactory() is first
