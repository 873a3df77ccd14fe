"""What the networks predict, and how that is measured."""

from stkd_lightning.tasks.classification import ClassificationMetrics

__all__ = ["ClassificationMetrics"]
