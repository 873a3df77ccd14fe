"""Standard output that ends no process: a reader that goes away, a closed descriptor, a terminal without UTF-8."""

import os
import subprocess
import sys

import pytest

from stkd_lightning.utilities.streams import keep_output

PROGRAM = """
import os, sys
from stkd_lightning.utilities.streams import keep_output
keep_output()
from stkd_lightning.utilities.console import print_rank_zero
for _ in range(10):
    print("printed")
    print_rank_zero("shown")
    sys.stdout.flush()
    os.write(1, b"written")
print("ended", file=sys.stderr)
"""


@pytest.mark.parametrize("variables", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_output_goes_on_without_its_reader(variables: dict[str, str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=write, stderr=subprocess.PIPE, text=True, env=os.environ | variables
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "ended\n")


def test_errors_go_on_without_their_reader() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=write, text=True)
    os.close(write)
    assert done.returncode == 0
    assert done.stdout.count("shown") == 10


def test_output_may_be_closed() -> None:
    command = 'exec "$0" -c "$1" >&-'
    done = subprocess.run(["sh", "-c", command, sys.executable, PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "ended\n")


def test_output_shows_characters_that_a_terminal_lacks() -> None:
    program = "from stkd_lightning.utilities.streams import keep_output; keep_output(); print('Zoë')"
    variables = os.environ | {"PYTHONIOENCODING": "ascii"}
    assert subprocess.check_output([sys.executable, "-c", program], text=True, env=variables) == "Zo\\xeb\n"


def test_output_of_a_caller_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    keep_output()
    assert sys.stdout is before
