"""Which of a run's processes this is, before torch.distributed is up."""

import os


def process_rank() -> int:
    """Return this process's rank as its launcher set it; 0 without a launcher."""
    # Lightning sets LOCAL_RANK and NODE_RANK in the ranks that it starts, which may be within a single task of SLURM.
    own = ["LOCAL_RANK"] if "NODE_RANK" in os.environ else []
    for name in ("RANK", *own, "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0
