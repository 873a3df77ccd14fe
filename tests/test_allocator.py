import subprocess
import sys

import pytest

STEP = """
import resource, sys
import torch
from stkd_lightning.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def step():
    kept = [torch.zeros(4 * 2**20) for _ in range(4)]  # 16 MiB each, as an activation of a wide layer
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_a_step_finds_the_memory_of_the_last() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", STEP, how], capture_output=True, text=True, check=True).stdout)
        for how in ("keep", "plain")
    }
    assert faults["keep"] < 500, faults
