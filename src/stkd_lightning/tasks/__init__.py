"""Tasks: the predictions of networks, their targets and their metrics."""

from stkd_lightning.tasks.base import Column, Metrics, Score, Task
from stkd_lightning.tasks.classification import Classification, ClassificationMetrics

__all__ = ["Classification", "ClassificationMetrics", "Column", "Metrics", "Score", "Task"]
