"""Keeping the memory of one step for the next."""

import ctypes
import sys

# glibc's mallopt(3). Larger blocks than the threshold would be mapped and given back one by one; it allows 32 MiB.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """Have glibc keep what is freed instead of handing it back to the kernel; elsewhere do nothing.

    A float32 step on the CPU takes and frees hundreds of MiB, whose pages are otherwise cleared anew each time: 23,000
    page faults and a seventh of the step of resnet8x4 at batch 64. The process holds on to its peak until it ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 2**26)
