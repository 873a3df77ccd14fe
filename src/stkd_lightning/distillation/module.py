"""The LightningModule: batch -> mixup -> teacher, student -> terms -> loss."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from stkd_lightning.data.batches import ResidentBatch
from stkd_lightning.distillation.evaluation import EvaluatedModule
from stkd_lightning.distillation.label_checks import check_unlabelled
from stkd_lightning.distillation.mixing import Mixing, check_mixable, check_order
from stkd_lightning.distillation.optimizers import OptimizerFactory, cifar_sgd, clip_gradients, with_rate_factors
from stkd_lightning.distillation.step import TrainingStep
from stkd_lightning.distillation.terms import Place, TermTracker, check_weights
from stkd_lightning.losses.base import Features, Loss, Terms
from stkd_lightning.losses.feature_loss import unsent_buffers
from stkd_lightning.models.feature_hooks import FeatureTap
from stkd_lightning.models.memory_format import channels_last, images_channels_last
from stkd_lightning.models.probe import NetworkInspector
from stkd_lightning.schedules import MultiStep, Schedule
from stkd_lightning.tasks.base import Task
from stkd_lightning.tasks.classification import Classification
from stkd_lightning.tasks.types import Batch, StepContext, VirtualBatch
from stkd_lightning.teacher.frozen import FrozenTeacher
from stkd_lightning.teacher.outputs import TeacherOutputs
from stkd_lightning.teacher.replay import check_replay
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import RunError
from stkd_lightning.utilities.float32 import exact_float32
from stkd_lightning.utilities.memory import keep_freed_memory


class DistillationModule(EvaluatedModule):
    """Train a student to satisfy a loss on the same (virtual) inputs as a frozen teacher.

    Batches are ``(inputs, labels)`` or ``(inputs, labels, indices)``: inputs ``(B, ...)`` float, normalized; labels
    int64 of the task's shape, ``(B,)`` for classification. The module logs ``train/loss`` and each term, averaged
    since they were last logged, and the task's metrics as ``val/...`` and ``test/...``, on inputs that are not mixed.
    The student is measured in the precision of its weights, whatever precision it trains in; the teacher as it teaches.
    Float32 is computed without TF32; after ``torch.set_float32_matmul_precision("high")`` training uses TF32, and
    evaluation does not.

    Args:
        student: the network to train; its convolutions are stored channels last.
        loss: maps both outputs and the mixed label to named terms, whose sum is minimized; parameters of the loss are
            optimized together with the student's.
        teacher: the trained network; ``None`` if the loss needs none.
        mixup: makes virtual samples of training batches; ``None``: batches are not mixed.
        optimizer: maps parameters to an optimizer; default ``cifar_sgd``.
        schedule: maps the progress of the run in [0, 1] to a factor of the learning rate at each step; default
            ``MultiStep()``.
        compile: generate code for the student's training step; for the teacher see ``FrozenTeacher``. On CUDA, resident
            data, mixing, teacher, student and loss make one trace if the loss is ``traceable``.
        cuda_graph: record the traced step, optimizer included, in one CUDA graph; on one GPU, with a fused SGD, without
            accumulation and clipping of gradients. Lightning's hook before the optimizer's step and the optimizer's own
            hooks are not called; of the optimizer's options only the learning rate may change.
        look_ahead: batches whose teacher outputs are computed at once, >= 1; more than 1 needs resident data.
        measure_teacher: measure the teacher in evaluations, and the student beside it; false for a teacher with other
            classes, whose features alone are read.
        replay: folder that stores the teacher's logits for later runs; see ``TeacherOutputs``.
        task: what the networks predict; default ``Classification()``. A data module of this project names its task.
        example: inputs ``(B, ...)`` of the shape in training, with which a loss that reads features is fitted to the
            networks; default one image of 3x32x32.

    Raises:
        ValueError: the loss needs a teacher and there is none.
        InputError: an unknown feature path; mixup for a loss that is not defined on virtual samples; replay for a loss
            that reads features of the teacher.

    Example:
        >>> import torch
        >>> from stkd_lightning import Batch, DistillationModule, Mixup
        >>> from stkd_lightning.losses import STKDLoss
        >>> from stkd_lightning.models import create_model
        >>> from stkd_lightning.teacher import FrozenTeacher
        >>> teacher = FrozenTeacher(create_model("resnet20", num_classes=10))
        >>> module = DistillationModule(create_model("resnet8", num_classes=10), STKDLoss(), teacher, Mixup())
        >>> sorted(module.terms(Batch(torch.rand(8, 3, 32, 32), torch.arange(8))))
        ['cross_entropy', 'similarity']
    """

    def __init__(
        self,
        student: nn.Module,
        loss: nn.Module,
        teacher: FrozenTeacher | None = None,
        mixup: Mixing | None = None,
        optimizer: OptimizerFactory = cifar_sgd,
        schedule: Schedule | None = None,
        *,
        compile: bool = False,
        cuda_graph: bool = False,
        look_ahead: int = 1,
        measure_teacher: bool = True,
        replay: str | Path | None = None,
        task: Task | None = None,
        example: Tensor | None = None,
    ) -> None:
        super().__init__()
        if teacher is None and getattr(loss, "needs_teacher", True):
            raise ValueError(f"{type(loss).__name__} needs a teacher: pass teacher=FrozenTeacher(network)")
        check_mixable(loss, mixup)
        if isinstance(task, Classification) and task.unlabelled:
            check_unlabelled(loss, mixup)
        if mixup is not None:
            check_order(mixup, look_ahead=look_ahead, replay=replay is not None, teacher=teacher is not None)
        if teacher is not None and isinstance(loss, Loss):
            image = torch.zeros(1, 3, 32, 32) if example is None else example[:1]
            loss.prepare(NetworkInspector(student, image), NetworkInspector(teacher.network, image))
        features = getattr(loss, "features", Features())
        if teacher is not None and set(features.teacher) - set(teacher.paths):
            teacher = teacher.with_features(features.teacher)
        if replay is not None:
            check_replay(loss)
        self.student = channels_last(student)
        self.loss = loss
        self._ddp_params_and_buffers_to_ignore = [f"loss.{name}" for name in unsent_buffers(loss)]
        self.mixup = mixup
        # Not a registered submodule, so that no state_dict, optimizer, `.train()` or DDP bucket sees it.
        self.__dict__["teacher"] = teacher
        if teacher is not None:
            self._teacher_outputs = TeacherOutputs(teacher, replay, task or Classification())
        self.measures_teacher = teacher is not None and measure_teacher
        self._asks = teacher is not None and getattr(loss, "needs_teacher", True)
        self._run_student = FeatureTap(student, features.student)
        self._optimizer_factory, self._schedule = optimizer, schedule or MultiStep()
        self.task = task or Classification()
        self.metrics = self.task.metrics()
        self._step = TrainingStep(
            self._run_student,
            loss,
            self._teacher_outputs if self._asks else None,
            self.task,
            self.virtual,
            compile=compile,
            cuda_graph=cuda_graph,
            look_ahead=validation.whole("teacher.look_ahead", look_ahead, minimum=1),
            passes=mixup.forwards if mixup else 1,
            reorders=bool(mixup and mixup.asks),
        )
        self._terms = TermTracker()
        self._logged_step = 0
        self._epochs, self._begun = 1, -1

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the student's logits, ``(B, K)`` for classification, of inputs ``(B, ...)``."""
        return self._run_student(inputs).logits

    def virtual(self, batch: Batch | ResidentBatch, context: StepContext | None = None) -> VirtualBatch:
        """Return the virtual batch that both networks see, channels last."""
        if self.mixup is None:
            virtual = VirtualBatch(batch.inputs, self.task.unmixed(batch.labels))
        else:
            order = {"entropy": self._entropy} if self.mixup.asks else {}
            virtual = self.mixup(batch, context, self.task.target, **order)
        target = self.task.seen(virtual.target, virtual.inputs)
        return VirtualBatch(images_channels_last(virtual.inputs), target)

    @torch.no_grad()
    def _entropy(self, inputs: Tensor) -> Tensor:
        """Return the entropies ``(B,)`` of the predictions of the network that orders the samples."""
        inputs = images_channels_last(inputs)
        if self.mixup is not None and self.mixup.asks == "teacher" and self.teacher is not None:
            return self.task.entropy(self.teacher(inputs).logits)
        return self.task.entropy(self._step.run_student(inputs)[0])

    def terms(self, batch: Batch | ResidentBatch, context: StepContext | None = None) -> Terms:
        """Return the weighted terms of the loss on a training batch."""
        return self._step.terms(batch, context)

    def on_fit_start(self) -> None:
        """Keep freed memory for the next step on CPUs; the allocator of a GPU does so by itself."""
        if self.device.type == "cpu":
            keep_freed_memory()

    @exact_float32(unless_asked=True)
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the objective of a batch.

        Raises:
            RunError: a term is NaN or infinite; on a GPU one step later.
        """
        if isinstance(batch, ResidentBatch):
            batch = batch.converted(self.trainer.precision_plugin.convert_input)
        else:
            batch = Batch(*batch)
        context = StepContext(self.current_epoch, self._epochs, batch_idx)
        names, values = self._step(batch, context, self.mixup, self.terms)
        try:
            self._terms.add(names, values, Place(self.current_epoch, batch_idx, self.global_step))
        except RunError as error:
            self._check_teacher(batch, error)
            raise
        return values.sum()

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, unless the step is recorded together with the networks."""
        if self._step.recorded and optimizer_closure is not None:
            optimizer_closure()
        else:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:
        """Compute gradients in the arithmetic of the step, unless they are recorded together with the networks."""
        if not self._step.recorded:
            with exact_float32(unless_asked=True):
                super().backward(loss, *arguments, **options)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Drop the gradients, unless the recorded step writes them anew."""
        if not self._step.recorded:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def _check_teacher(self, batch: Batch | ResidentBatch, error: RunError) -> None:
        """Blame the teacher for terms that are not finite if its logits are not finite."""
        if self._asks and self.teacher is not None:
            logits = self.teacher(images_channels_last(batch.inputs), eager=True).logits
            if not bool(logits.isfinite().all()):
                raise RunError(
                    f"teacher: its logits are NaN or infinite, hence {str(error).partition(';')[0]}; "
                    "another teacher.checkpoint or precision=32-true may help",
                    passes=False,
                ) from error

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the mean of the terms every n optimizer steps; other steps do not wait for the device."""
        every = getattr(self.trainer, "log_every_n_steps", 50)  # set by Lightning outside the class
        if every and self.global_step % every == 0 and self.global_step != self._logged_step:
            self._logged_step = self.global_step
            logged = dict(self._terms.pop_means())
            for part in self.loss.modules():
                logged |= part.logged() if isinstance(part, Loss) else {}
            means = {f"train/{name}": value for name, value in logged.items()}
            self.log_dict(means, on_step=True, on_epoch=False, sync_dist=True)

    def check_finite(self) -> None:
        """Check terms and weights before they are saved.

        Raises:
            RunError: a term or a weight is NaN or infinite.
        """
        self._terms.check_pending()
        buffers = ((f"student.{name}", b) for name, b in self.student.named_buffers())
        check_weights([*self.named_parameters(), *buffers], self.current_epoch, self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the terms that are not logged yet, and whether the teacher's copies are within tolerance."""
        checkpoint["running_means"] = {"logged_step": self._logged_step, **self._terms.state_dict()}
        checkpoint["teacher_faithful"] = dict(self.teacher.within_tolerance) if self.teacher else {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load them; a checkpoint of another project lacks them."""
        state = dict(checkpoint.get("running_means", {}))
        self._logged_step = state.pop("logged_step", 0)
        self._terms.load_state_dict(**state)
        if self.teacher is not None:
            self.teacher.within_tolerance.update(checkpoint.get("teacher_faithful", {}))

    def on_train_start(self) -> None:
        """Begin the first epoch, or continue in the middle of one."""
        self._begun = -1
        self._begin_epoch()
        parts = ("training_step", "terms", "virtual")
        changed = [name for name in parts if getattr(type(self), name) is not getattr(DistillationModule, name)]
        obstacle = f"{type(self).__name__} has a method {changed[0]} of its own" if changed else None
        self._step.begin(self.trainer, self.mixup, obstacle)

    def on_train_end(self) -> None:
        """Release what the training kept on the device."""
        self._step.end()

    def on_train_epoch_start(self) -> None:
        """Begin an epoch."""
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        """Compute the length of the run, and open the epoch's teacher outputs."""
        if self._begun == self.current_epoch:
            return
        self._begun = self.current_epoch
        batches = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        epochs = self.trainer.estimated_stepping_batches / batches  # max_steps may end the run before max_epochs
        self._epochs = max(1, math.ceil(epochs)) if math.isfinite(epochs) else 1
        if self._asks:
            self._teacher_outputs.begin_epoch(self.current_epoch, self.trainer.num_training_batches)

    def on_train_epoch_end(self) -> None:
        """Close the epoch's teacher outputs."""
        if self._asks:
            self._teacher_outputs.end_epoch()

    def abandon(self) -> None:
        """Release the recording of a failed run, so that other runs can record."""
        if self.teacher is not None:
            self._teacher_outputs.abandon()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients, in mixed precision also those of a fused optimizer."""
        plugin = self.trainer.precision_plugin
        if gradient_clip_val and isinstance(plugin, MixedPrecision):
            clip_gradients(plugin, optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> Any:
        """Optimize the parameters of student and loss; set the learning rate at each step."""
        optimizer = with_rate_factors(self._optimizer_factory, self.student, self.loss.parameters())
        steps = self.trainer.estimated_stepping_batches
        scheduler = LambdaLR(optimizer, lambda step: float(self._schedule(min(1.0, step / steps))))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
