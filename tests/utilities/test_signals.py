"""Signals that ask a process to end."""

import os
import pickle
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stkd_lightning.utilities import signals
from stkd_lightning.utilities.signals import Interrupted, deferred, listen, requested, requeue, run_child


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {one: signal.getsignal(one) for one in signals.SIGNALS}
    listen()
    yield
    for one, handler in before.items():
        signal.signal(one, handler)
    signals._State.received = None


def test_it_ends_at_once() -> None:
    with pytest.raises(Interrupted) as end:
        os.kill(os.getpid(), signal.SIGTERM)
    assert end.value.exit_code == 143
    assert requested() is signal.SIGTERM


def asked(*signals: signal.Signals, fault: str | None = None) -> list[bool]:
    """Send signals to this process where it only takes note of them."""
    noted = []
    with deferred():
        for one in signals:
            os.kill(os.getpid(), one)
            noted.append(requested() is one)
            NOTED[:] = noted
        if fault:
            raise ValueError(fault)
    return noted


NOTED: list[bool] = []


def test_it_waits_where_it_is_asked_to() -> None:
    with pytest.raises(Interrupted) as end:
        asked(signal.SIGINT)
    assert NOTED == [True]
    assert end.value.exit_code == 130


def test_a_second_interrupt_from_the_keyboard_does_not_wait() -> None:
    with pytest.raises(Interrupted):
        asked(signal.SIGINT, signal.SIGINT)
    assert NOTED == [True]  # the second was not only noted


def test_a_fault_is_not_hidden_by_a_signal() -> None:
    with pytest.raises(ValueError, match="fault"):
        asked(signal.SIGTERM, fault="fault")


def test_a_child_gets_the_signal_and_is_waited_for(tmp_path: Path) -> None:
    script = "import os, signal, sys\ndef end(*_):\n    open(sys.argv[1], 'a').write('x')\n    os._exit(7)\n"
    script += "signal.signal(signal.SIGINT, end)\n"
    script += "os.kill(os.getppid(), signal.SIGINT)\nsignal.pause()\n"
    with pytest.raises(Interrupted):
        run_child([sys.executable, "-c", script, str(tmp_path / "called")])
    assert (tmp_path / "called").read_text() == "x"
    listen()
    assert run_child([sys.executable, "-c", "raise SystemExit(3)"]) == 3


def test_it_passes_from_one_process_to_another() -> None:
    end = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM, "after 3 steps")))
    assert (end.received, end.saved, str(end)) == (signal.SIGTERM, "after 3 steps", "SIGTERM")


def test_a_job_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a command that stands where SLURM's would."""
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    assert requeue()
    assert (tmp_path / "called").read_text() == "requeue 123\n"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "120")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert requeue()
    assert (tmp_path / "called").read_text() == "requeue 120_3\n"
    monkeypatch.setenv("PATH", "")
    assert not requeue()
