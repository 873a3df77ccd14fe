"""The kind of student of a task."""

from torch import nn

from stkd_lightning.inference.segmentation_student import SegmentationStudent
from stkd_lightning.inference.student import Student
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.inference.tagging_student import TaggingStudent
from stkd_lightning.tasks.tagging import Tagging


def student_for(network: nn.Module, facts: StudentFacts) -> Student:
    """Return the student of a network, of the kind of its task."""
    if isinstance(facts.task, Tagging):
        return TaggingStudent(network, facts)
    return SegmentationStudent(network, facts) if facts.task.dense else Student(network, facts)
