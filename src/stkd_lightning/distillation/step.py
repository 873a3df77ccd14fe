"""A training step: virtual batch -> teacher, student -> terms, in the fastest way that the training allows."""

from collections.abc import Callable
from dataclasses import replace

import lightning as L
import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from stkd_lightning.data.batches import ResidentBatch
from stkd_lightning.distillation.epoch_steps import EpochSteps, accumulates, obstacle_to_record, obstacle_to_trace
from stkd_lightning.distillation.look_ahead import LookAhead, Make, check_resident
from stkd_lightning.distillation.mixing import Mixing
from stkd_lightning.distillation.traced_step import NamedValues, StepParts
from stkd_lightning.losses.base import Terms
from stkd_lightning.models.feature_hooks import FeatureTap, has_batch
from stkd_lightning.models.memory_format import Run, compiled
from stkd_lightning.tasks.base import Task
from stkd_lightning.tasks.types import Batch, ModelOutput, StepContext, VirtualBatch
from stkd_lightning.teacher.outputs import TeacherOutputs
from stkd_lightning.utilities.console import print_rank_zero
from stkd_lightning.utilities.errors import InputError, RunError


class TrainingStep:
    """The terms of training batches.

    Args:
        student: runs the student.
        loss: maps outputs and target to terms.
        outputs: of the teacher; ``None`` if the loss needs none.
        task: makes the targets.
        virtual: makes virtual batches.
        compile: generate code; see ``DistillationModule``.
        cuda_graph: record the step in one CUDA graph; see ``DistillationModule``.
        look_ahead: batches whose teacher outputs are computed at once.
        passes: passes of the student over the rows of a batch, which share them equally.
        reorders: the rows of a virtual batch are not those of the batch in their order.

    Attributes:
        run_student: the student by itself, in training.
        recorded: true if the optimizer's step is part of the step.
    """

    def __init__(
        self,
        student: FeatureTap,
        loss: nn.Module,
        outputs: TeacherOutputs | None,
        task: Task,
        virtual: Make,
        *,
        compile: bool,
        cuda_graph: bool,
        look_ahead: int,
        passes: int = 1,
        reorders: bool = False,
    ) -> None:
        self._student, self._loss, self._outputs, self._task, self._virtual = student, loss, outputs, task, virtual
        self._compiles, self._wants_graph, self._graphs = compile, cuda_graph, True
        self._passes, self._reorders = passes, reorders
        self.run_student: Run = compiled(student.parts) if compile else student.parts
        ahead = outputs is not None and look_ahead > 1
        self._look_ahead = LookAhead(look_ahead, virtual, outputs.teacher) if outputs and ahead else None
        self._traced: EpochSteps | None = None
        self.recorded = False

    def begin(self, trainer: L.Trainer, mixup: Mixing | None, obstacle: str | None) -> None:
        """Choose the way for a training; print why a wanted graph is not recorded.

        Args:
            trainer: with its loader and optimizers.
            mixup: mixes the batches.
            obstacle: what keeps the module's step from one trace; ``None``: nothing.
        """
        self.end()
        graphs = not accumulates(trainer)  # a CUDA graph overwrites gradients that others are added to
        if self._compiles and graphs != self._graphs:
            self._graphs, self.run_student = graphs, compiled(self._student.parts, graphs=graphs)
        obstacle = obstacle or self._obstacle(mixup) or obstacle_to_trace(trainer)
        unrecorded = obstacle or obstacle_to_record(trainer)
        if self._wants_graph and unrecorded:
            print_rank_zero(f"cuda_graph=true: the step is not recorded in one graph: {unrecorded}")
        self.recorded = self._wants_graph and unrecorded is None
        if obstacle is None:
            self._traced = EpochSteps(self._parts, trainer.optimizers[0] if self.recorded else None, graphs=graphs)

    def end(self) -> None:
        """Release what a training kept on the device."""
        self._traced, self.recorded = None, False
        if self._look_ahead is not None:
            self._look_ahead.end()

    def _obstacle(self, mixup: Mixing | None) -> str | None:
        if not self._compiles:
            return "compile=false"
        if not getattr(self._loss, "traceable", False):
            return f"{type(self._loss).__name__} is not traceable"
        if mixup is not None and type(mixup).forward is not Mixing.forward:
            return f"{type(mixup).__name__} has a forward of its own"
        if self._outputs is not None and self._outputs.replay is not None:
            return "teacher.replay=true"
        return f"teacher.look_ahead={self._look_ahead.steps}" if self._look_ahead else None

    def _parts(self, images: Tensor) -> StepParts:
        teacher = self._outputs.teacher.copy_for(images) if self._outputs else None
        return StepParts(in_passes(self._student.parts, self._passes), teacher, self._loss, self._task)

    def __call__(
        self,
        batch: Batch | ResidentBatch,
        context: StepContext,
        mixup: Mixing | None,
        terms: Callable[[Batch | ResidentBatch, StepContext], Terms],
    ) -> NamedValues:
        """Return the names of the terms of a batch, and their values ``(n,)``; with gradients unless ``recorded``.

        Args:
            batch: of this rank.
            context: place of the batch in the run, without its indices.
            mixup: mixes the batch in a traced step.
            terms: returns the terms where the step is not traced.

        Raises:
            InputError: a graph was asked for, but a hook replaced the batch.
            RunError: a graph was asked for, but the networks and the loss make no trace.
        """
        if self._traced is not None and isinstance(batch, ResidentBatch):
            torch.compiler.cudagraph_mark_step_begin()
            try:
                return self._traced(batch, context.epoch, mixup)
            except (TorchDynamoException, FailOnRecompileLimitHit) as error:
                reason = f"the step does not make one trace: {str(error).strip().partition(chr(10))[0]}"
                if self.recorded:
                    raise RunError(f"cuda_graph=true: {reason}; set cuda_graph=false", passes=False) from error
                print_rank_zero(f"student: {reason}; its parts are compiled")
                self._traced = None
        if self.recorded:
            raise InputError("cuda_graph=true: a hook replaces the data module's batches; set cuda_graph=false")
        found = terms(batch, replace(context, indices=batch.indices))
        return tuple(found), torch.stack(list(found.values()))

    def terms(self, batch: Batch | ResidentBatch, context: StepContext | None = None) -> Terms:
        """Return the weighted terms of the loss on a batch."""
        if self._compiles:
            torch.compiler.cudagraph_mark_step_begin()  # the outputs of the last step's graphs are no longer needed
        virtual, ask = self._asked(batch, context)
        teacher = self._outputs.training_output(virtual.inputs, context, ask) if self._outputs else None
        student = ModelOutput(*in_passes(self.run_student, self._passes)(virtual.inputs))
        if context is not None:
            indices = None if self._reorders else _of_rows(context.indices, len(virtual.inputs))
            context = replace(context, indices=indices)
        return self._loss(student, teacher, virtual.target, context)

    def _asked(
        self, batch: Batch | ResidentBatch, context: StepContext | None
    ) -> tuple[VirtualBatch, Callable[[], ModelOutput] | None]:
        """Return the virtual batch, and perhaps a function that returns the teacher's output for it."""
        if self._look_ahead is None or context is None:
            return self._virtual(batch, context), None
        check_resident(self._look_ahead.steps, batch)
        assert isinstance(batch, ResidentBatch)
        group = self._look_ahead.group(batch, context)
        place = context.step - group.start
        return group.batches[place], lambda: group.outputs[place]


def in_passes(run: Run, passes: int) -> Run:
    """Return a function that runs a network on equal parts of its input one after another, and joins the outputs."""
    if passes == 1:
        return run

    def joined(images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits, features = zip(*(run(part) for part in images.chunk(passes)), strict=True)
        whole = {
            p: torch.cat([part[p] for part in features]) if has_batch(p) else one for p, one in features[0].items()
        }
        return torch.cat(logits), whole

    return joined


def _of_rows(indices: Tensor | None, rows: int) -> Tensor | None:
    """Repeat the indices of samples whose virtual rows follow the clean ones."""
    return indices if indices is None or len(indices) == rows else indices.repeat(rows // len(indices))
