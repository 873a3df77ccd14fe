import subprocess
import sys

import pytest

STEP = """
import sys
import torch
from stkd_lightning.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])
before = resident()
kept = [torch.ones(4 * 2**20) for _ in range(8)]  # 16 MiB each, as an activation of a wide layer
held = resident() - before
del kept
print((resident() - before) / held)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_what_a_step_freed_stays_for_the_next() -> None:
    stays = {
        how: float(subprocess.run([sys.executable, "-c", STEP, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "plain")
    }
    assert stays["keep"] > 0.9, stays
    assert stays["plain"] < 0.2, stays
