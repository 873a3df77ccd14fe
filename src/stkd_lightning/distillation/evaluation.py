"""Validation and test of a student beside its teacher."""

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from stkd_lightning.tasks.base import Metrics, Task
from stkd_lightning.tasks.types import Batch
from stkd_lightning.teacher.frozen import FrozenTeacher
from stkd_lightning.teacher.outputs import TeacherOutputs
from stkd_lightning.utilities.distributed import share_buffers
from stkd_lightning.utilities.float32 import exact_float32


class EvaluatedModule(L.LightningModule):
    """Base of ``DistillationModule``: measures the student on unmixed inputs, and logs ``val/...`` and ``test/...``.

    Attributes:
        student: the network that is measured, by ``forward``.
        teacher: ``None`` if there is none.
        measures_teacher: whether the teacher is measured, too, and the student beside it.
        task: of both networks.
        metrics: of the task.
    """

    student: nn.Module
    teacher: FrozenTeacher | None
    measures_teacher: bool
    task: Task
    metrics: Metrics
    _teacher_outputs: TeacherOutputs

    def _begin_evaluation(self, stage: str, batches: list[int | float]) -> None:
        # The checkpoint holds the first rank's BatchNorm statistics, so all ranks measure with them.
        share_buffers(self.student)
        if self.measures_teacher and not self.trainer.sanity_checking:
            self._teacher_outputs.begin_evaluation(stage, batches)

    @exact_float32()
    def _evaluation_step(self, stage: str, batch: Any, batch_idx: int, dataloader_idx: int) -> dict[str, Tensor]:
        batch = Batch(*batch)
        with torch.autocast(batch.inputs.device.type, enabled=False):
            student = self.task.infer(self, batch.inputs)
        teacher = None
        if self.measures_teacher:
            teacher = self._teacher_outputs.evaluation_logits(batch, stage, dataloader_idx, batch_idx)
        self.metrics.update(student, batch.labels, teacher)
        return {"student": student} if teacher is None else {"student": student, "teacher": teacher}

    def _end_evaluation(self, stage: str) -> None:
        if self.measures_teacher and not self.trainer.sanity_checking:
            self._teacher_outputs.end_evaluation()
        values = self.metrics.compute(with_teacher=self.measures_teacher)
        with torch.inference_mode(False):  # later training continues with these tensors
            self.metrics.reset()
        # torchmetrics has reduced the values over the ranks already; the mean of equal values is the value.
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()}, sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Give all ranks one student to measure."""
        self._begin_evaluation("val", self.trainer.num_val_batches)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measure a batch."""
        self._evaluation_step("val", batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/...``."""
        self._end_evaluation("val")

    def on_test_epoch_start(self) -> None:
        """Give all ranks one student to measure."""
        self._begin_evaluation("test", self.trainer.num_test_batches)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Measure a batch, and return the logits of ``student`` and ``teacher`` for callbacks."""
        return self._evaluation_step("test", batch, batch_idx, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Log ``test/...``."""
        self._end_evaluation("test")
