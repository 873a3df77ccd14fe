import subprocess
import sys

import pytest

STEPS = """
import resource
import torch
from stkd_lightning.utilities.memory import keep_freed_memory
keep_freed_memory()
def step():
    kept = [torch.zeros(4 * 2**20) for _ in range(4)]  # 16 MiB each, as an activation of a wide layer
for _ in range(15):  # where glibc lays them settles after up to five
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

FREED = """
import sys
import torch
from stkd_lightning.utilities.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])
before = resident()
kept = [torch.ones(4 * 2**20) for _ in range(8)]
held = resident() - before
del kept
print((resident() - before) / held)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's")


def _printed(script: str, *arguments: str) -> float:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_a_step_finds_the_memory_of_the_last() -> None:
    assert _printed(STEPS) < 500


def test_what_was_freed_is_kept_only_so() -> None:
    assert _printed(FREED, "keep") > 0.9
    assert _printed(FREED, "plain") < 0.2
