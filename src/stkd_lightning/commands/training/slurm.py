"""A job of SLURM, whose tasks are the ranks."""

import os

from lightning.pytorch.plugins.environments import SLURMEnvironment

from stkd_lightning.utilities.errors import InputError


def slurm_environment() -> SLURMEnvironment:
    """Return what tells Lightning of the job; that it is started again is this project's own to see to.

    Raises:
        InputError: this process is no task of a job.
    """
    if "SLURM_NTASKS" not in os.environ or "SLURM_PROCID" not in os.environ:
        raise InputError("trainer=slurm: this is no task of a SLURM job; in a job script: srun python -m ...")
    return SLURMEnvironment(auto_requeue=False)
