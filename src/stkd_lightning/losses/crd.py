"""Contrastive Representation Distillation: Tian et al. 2020, Sec. 3 (arXiv:1910.10699)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import FeatureLoss, Shapes, embedded
from stkd_lightning.models.probe import Layers
from stkd_lightning.tasks.types import MixedTarget, ModelOutput, StepContext
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.distributed import gather, world
from stkd_lightning.utilities.dtypes import at_least_float32
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.random import generator


@full_precision
def contrastive_representation(
    student: Tensor,
    teacher: Tensor,
    *,
    student_memory: Tensor,
    teacher_memory: Tensor,
    indices: Tensor,
    normalizers: Tensor,
    temperature: float = 0.07,
) -> Tensor:
    """Noise-contrastive loss of each network's embeddings against the memory of the other's (Eq. 18 to 20).

    With anchor a, memory m of N samples, K negatives and the estimate ``P = exp(a . m / T) / Z`` of a pair's odds::

        -log P_0 / (P_0 + K / N) - sum_{k=1..K} log (K / N) / (P_k + K / N)

    averaged over the batch and summed over both directions.

    Args:
        student: embeddings ``(B, d)``, L2-normalized; carries the gradient.
        teacher: embeddings ``(B, d)``, L2-normalized; carries the gradient of its learned map.
        student_memory: ``(N, d)``, a constant.
        teacher_memory: ``(N, d)``, a constant.
        indices: ``(B, 1 + K)``: the sample itself, then its negatives.
        normalizers: ``(2,)``: log Z of the student's and of the teacher's anchors.
        temperature: T > 0.

    Returns:
        Scalar, nats per example.
    """
    own = similarities(student, teacher_memory, indices, temperature)
    other = similarities(teacher, student_memory, indices, temperature)
    log_noise = math.log((indices.shape[1] - 1) / len(student_memory))
    total = torch.zeros((), dtype=own.dtype, device=own.device)
    for logits, log_normalizer in zip((own, other), normalizers, strict=True):
        log_odds = logits - log_normalizer - log_noise
        total = total - F.logsigmoid(log_odds[:, 0]).mean() - F.logsigmoid(-log_odds[:, 1:]).sum(1).mean()
    return total


def similarities(anchors: Tensor, memory: Tensor, indices: Tensor, temperature: float) -> Tensor:
    """Return ``a . m / T`` of each anchor ``(B, d)`` with the samples of its row of indices ``(B, 1 + K)``."""
    # All products are cheaper than gathering K vectors for each anchor, as long as K is not far below N.
    return (anchors @ memory.to(anchors.dtype).T).gather(1, indices) / temperature


class CRDLoss(FeatureLoss):
    """``contrastive_representation`` of embeddings learned with the student; term ``crd``.

    Every sample's embeddings are remembered, as a moving average. Negatives are drawn anew for each sample, with
    replacement, from the samples of other classes that have been shown so far (the authors': from all, which at first
    are noise), by a function of (seed, epoch, batch); a batch of one class at the very start has nothing else to draw.
    Every rank remembers what all ranks have shown, so that all memories are one; it is kept in checkpoints. In the
    literature beside cross-entropy with weight 0.8.

    Not defined on virtual samples, which are none of the remembered ones. Needs the samples' indices, as this project's
    data modules yield them.

    Args:
        num_samples: N, of the training split from which the indices are.
        negatives: K >= 1.
        temperature: T > 0.
        momentum: share in [0, 1] of what was remembered in the moving average.
        width: d >= 1 of the embeddings.
        seed: of negatives and of the memory's start, >= 0.
        student_layers: module path; see ``FeatureLoss``; by default the pooled features.
        teacher_layers: module path.

    Raises:
        InputError: an argument outside its range; when called, samples that are mixed or have no index.
    """

    mixable = False
    reads_one = learns = True
    student_memory: Tensor
    teacher_memory: Tensor
    labels: Tensor
    normalizers: Tensor

    def __init__(
        self,
        *,
        num_samples: int,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        width: int = 128,
        seed: int = 0,
        student_layers: str | Sequence[str] | None = None,
        teacher_layers: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(student_layers=student_layers, teacher_layers=teacher_layers)
        self.num_samples = validation.whole("loss.num_samples", num_samples, minimum=2)
        self.negatives = validation.whole("loss.negatives", negatives, minimum=1)
        self.temperature = validation.positive("loss.temperature", temperature)
        self.momentum = validation.unit_interval("loss.momentum", momentum)
        self.width = validation.whole("loss.width", width, minimum=1)
        self.seed = validation.whole("loss.seed", seed)
        self._forget()

    def _forget(self) -> None:
        shape, bound = (self.num_samples, self.width), math.sqrt(3 / self.width)  # a unit vector's variance
        for name in ("student_memory", "teacher_memory"):
            start = generator(self.seed, name).uniform(-1, 1, shape) * bound
            self.register_buffer(name, torch.from_numpy(start).float())
        self.register_buffer("labels", torch.full((self.num_samples,), -1))  # -1: not shown yet
        self.register_buffer("normalizers", torch.full((2,), torch.nan))  # estimated from the first batch
        self._begun = False

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the pooled features' path."""
        return (layers.embedding,)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Make both linear maps, and forget what others have made."""
        self._forget()
        self.student_embedding, self.teacher_embedding = (
            nn.Sequential(nn.Flatten(), nn.Linear(shapes[0][1:].numel(), self.width)) for shapes in (student, teacher)
        )

    def forward(
        self,
        student: ModelOutput,
        teacher: ModelOutput | None,
        target: MixedTarget,
        context: StepContext | None = None,
    ) -> Terms:
        """Return ``{"crd"}``, and remember the batch."""
        if target.labels.ndim != 2:
            raise InputError("CRDLoss: needs one label for each sample; this task has one for each position")
        if target.labels.shape[1] != 1:
            raise InputError("CRDLoss: not defined on mixed samples; train with mixup=none")
        if context is None or context.indices is None:
            raise InputError("CRDLoss: needs each sample's index; have the loader yield (images, labels, indices)")
        ((own, other),) = self.pairs(student, teacher)
        own = F.normalize(at_least_float32(embedded(self.student_embedding, own)), dim=1)
        other = F.normalize(at_least_float32(embedded(self.teacher_embedding, other)), dim=1)
        everyone, labels = gather(context.indices), gather(target.labels[:, 0])
        # On a GPU the maximum is waited for, so that only the first batch is looked at.
        if not (self._begun and everyone.is_cuda) and int(everyone.max()) >= self.num_samples:
            raise InputError(f"CRDLoss: num_samples={self.num_samples}, but there is a sample {int(everyone.max())}")
        self.labels = self.labels.index_copy(0, everyone, labels)
        rank, _ = world()
        mine = slice(rank * len(own), (rank + 1) * len(own))
        indices = torch.cat([everyone[:, None], self._negatives(labels, context)], dim=1)[mine]
        if not self._begun:
            self._begin(own.detach(), other.detach(), indices)
        value = contrastive_representation(
            own,
            other,
            student_memory=self.student_memory,
            teacher_memory=self.teacher_memory,
            indices=indices,
            normalizers=self.normalizers,
            temperature=self.temperature,
        )
        # Into new tensors, since the gradient still needs the old ones.
        self.student_memory = self._remember(self.student_memory, everyone, gather(own.detach()))
        self.teacher_memory = self._remember(self.teacher_memory, everyone, gather(other.detach()))
        return {"crd": value}

    def _negatives(self, labels: Tensor, context: StepContext) -> Tensor:
        """Draw ``(B, K)`` samples, each of another class than the one in ``(B,)`` labels, of the whole batch."""
        known, order = self.labels.sort(stable=True)
        unseen = torch.searchsorted(known, torch.zeros_like(labels[:1]))
        start, end = torch.searchsorted(known, labels), torch.searchsorted(known, labels, right=True)
        others = (len(known) - unseen - (end - start)).clamp(min=1)[:, None]
        random = torch.Generator(labels.device)
        random.manual_seed(int(generator(self.seed, "negatives", context.epoch, context.step).integers(2**62)))
        drawn = torch.randint(2**62, (len(labels), self.negatives), generator=random, device=labels.device) % others
        position = unseen + drawn
        position = position + (end - start)[:, None] * (position >= start[:, None])
        return order[position.clamp(max=len(order) - 1)]

    def _begin(self, student: Tensor, teacher: Tensor, indices: Tensor) -> None:
        """Estimate both normalizers from the first batch: log of N times the mean of ``exp(a . m / T)`` (Sec. 3.4)."""
        if not bool(self.normalizers.isfinite().all()):  # else they come from a checkpoint
            pairs = ((student, self.teacher_memory), (teacher, self.student_memory))
            with torch.autocast(student.device.type, enabled=False):
                own = [similarities(*pair, indices, self.temperature).logsumexp((0, 1)) for pair in pairs]
            ranks = gather(torch.stack(own)[None])
            count = indices.numel() * len(ranks)
            estimate = ranks.logsumexp(0) - math.log(count) + math.log(self.num_samples)
            self.normalizers = estimate.to(self.normalizers.dtype)  # as a checkpoint keeps it
        self._begun = True

    @torch.no_grad()
    def _remember(self, memory: Tensor, indices: Tensor, embeddings: Tensor) -> Tensor:
        mean = self.momentum * memory[indices] + (1 - self.momentum) * embeddings.to(memory.dtype)
        return memory.index_copy(0, indices, F.normalize(mean, dim=1))
