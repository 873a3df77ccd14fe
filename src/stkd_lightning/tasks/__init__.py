"""Tasks: the predictions of networks, their targets and their metrics."""

from stkd_lightning.tasks.base import Column, Metrics, Score, Task
from stkd_lightning.tasks.classification import Classification, ClassificationMetrics
from stkd_lightning.tasks.representation import Representation, RepresentationMetrics
from stkd_lightning.tasks.segmentation import Segmentation
from stkd_lightning.tasks.segmentation_metrics import SegmentationMetrics
from stkd_lightning.tasks.tagging import Tagging
from stkd_lightning.tasks.tagging_metrics import TaggingMetrics

__all__ = [
    "Classification",
    "ClassificationMetrics",
    "Column",
    "Metrics",
    "Representation",
    "RepresentationMetrics",
    "Score",
    "Segmentation",
    "SegmentationMetrics",
    "Tagging",
    "TaggingMetrics",
    "Task",
]
