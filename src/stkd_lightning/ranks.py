"""Which of a run's processes this is, before torch.distributed is up."""

import os


def process_rank() -> int:
    """Return this process's rank as its launcher set it; 0 without a launcher."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0
