"""The environment of a SLURM job, whose tasks are the ranks."""

import os

from lightning.pytorch.plugins.environments import SLURMEnvironment

from stkd_lightning.utilities.errors import InputError


def slurm_environment() -> SLURMEnvironment:
    """Return Lightning's environment of a SLURM job, without its requeueing, which this project does itself.

    Raises:
        InputError: this process is not a task of a SLURM job.
    """
    if "SLURM_NTASKS" not in os.environ or "SLURM_PROCID" not in os.environ:
        raise InputError(
            "trainer=slurm: this process is not a task of a SLURM job; in a job script run: srun python -m ..."
        )
    return SLURMEnvironment(auto_requeue=False)
