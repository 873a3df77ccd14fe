"""The rank of this process before torch.distributed is initialized."""

import os


def process_rank() -> int:
    """Return this process's rank as its launcher set it; 0 without a launcher."""
    # Lightning sets LOCAL_RANK and NODE_RANK in the ranks that it starts, possibly inside a single SLURM task.
    by_lightning = ["LOCAL_RANK"] if "NODE_RANK" in os.environ else []
    for name in ("RANK", *by_lightning, "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def local_rank() -> int:
    """Return this process's rank on its machine as its launcher set it; 0 without a launcher."""
    return int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
