"""The linear start of a term, by epochs counted from 1, as in mdistiller's recipes."""

from stkd_lightning.tasks.types import StepContext


def warmed_up(context: StepContext | None, share: float) -> float:
    """Return the factor in (0, 1] of a term in an epoch.

    Args:
        context: where the run stands; ``None``: past the warm-up.
        share: of the run's epochs in which the factor grows, in equal steps to 1.
    """
    if context is None or share == 0:
        return 1.0
    return min(1.0, (context.epoch + 1) / (share * context.max_epochs))
