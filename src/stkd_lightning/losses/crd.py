"""Contrastive Representation Distillation: Tian et al. 2020, Sec. 3 (arXiv:1910.10699)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.losses.base import Terms, full_precision
from stkd_lightning.losses.feature_loss import FeatureLoss, Shapes, embed
from stkd_lightning.models.layers import Layers
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
    """Noise-contrastive loss of each network's embeddings against the other network's memory (Eq. 18 to 20).

    With anchor a, memory m of N samples, K negatives and the estimated odds ``P = exp(a . m / T) / Z`` of a pair::

        -log P_0 / (P_0 + K / N) - sum_{k=1..K} log (K / N) / (P_k + K / N)

    averaged over the batch and summed over both directions.

    Args:
        student: embeddings ``(B, d)``, L2-normalized; carries the gradient.
        teacher: embeddings ``(B, d)``, L2-normalized; carries the gradient of its trained map.
        student_memory: ``(N, d)``; treated as a constant.
        teacher_memory: ``(N, d)``; treated as a constant.
        indices: ``(B, 1 + K)``; the sample itself, then its negatives.
        normalizers: ``(2,)``; log Z for the student's and for the teacher's anchors.
        temperature: T > 0.

    Returns:
        Scalar, nats per example.
    """
    student_logits = similarities(student, teacher_memory, indices, temperature)
    teacher_logits = similarities(teacher, student_memory, indices, temperature)
    log_noise = math.log((indices.shape[1] - 1) / len(student_memory))
    total = torch.zeros((), dtype=student_logits.dtype, device=student_logits.device)
    for logits, log_normalizer in zip((student_logits, teacher_logits), normalizers, strict=True):
        log_odds = logits - log_normalizer - log_noise
        total = total - F.logsigmoid(log_odds[:, 0]).mean() - F.logsigmoid(-log_odds[:, 1:]).sum(1).mean()
    return total


def similarities(anchors: Tensor, memory: Tensor, indices: Tensor, temperature: float) -> Tensor:
    """Return ``a . m / T`` of each anchor ``(B, d)`` with the samples in its row of indices ``(B, 1 + K)``."""
    # Computing all products is cheaper than gathering K vectors for each anchor, unless K is far below N.
    return all_similarities(anchors, memory, temperature).gather(1, indices)


def all_similarities(anchors: Tensor, memory: Tensor, temperature: float) -> Tensor:
    """Return ``a . m / T`` of each anchor ``(B, d)`` with each sample of a memory ``(N, d)``: ``(B, N)``."""
    return anchors @ memory.to(anchors.dtype).T / temperature


class CRDLoss(FeatureLoss):
    """``contrastive_representation`` of embeddings trained with the student; term ``crd``.

    A memory keeps a moving average of each sample's embeddings. The negatives of a sample are drawn with replacement
    from the samples of other classes seen so far, by a function of (seed, epoch, batch); the authors draw from all
    samples, whose memory is noise at first. A first batch of a single class draws negatives from that class. Every rank
    stores the samples of all ranks, so the memories are equal on all ranks; checkpoints contain them. In the literature
    the term is added to cross-entropy with weight 0.8.

    Z is N times the mean of ``exp(a . m / T)`` over the anchors of the first batch and the whole memory, which is
    still random then; over seeds it scatters by 1 % with 50,000 samples. The authors' mean over the negatives of each
    anchor has the same expectation. N cancels in the odds ``P / (K / N)``, so held-out images, which leave their rows
    of the memory unused, do not change the loss.

    The loss is not defined on virtual samples, since the memory holds real samples only. It needs each sample's index,
    which this project's data modules yield.

    Args:
        num_samples: N, number of samples of the training split; the indices of samples are below it.
        negatives: K >= 1.
        temperature: T > 0.
        momentum: weight in [0, 1] of the old value in the moving average.
        width: d >= 1, size of the embeddings.
        seed: >= 0, for the negatives and the initial memory.
        student_layers: module path; see ``FeatureLoss``; by default the pooled features.
        teacher_layers: module path.

    Raises:
        InputError: an argument is outside its range; in ``forward``, samples are mixed or have no valid index.
    """

    mixable = False
    dense = False
    exclusive = True
    needs_labels = True
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
        self._reset_memory()

    def _reset_memory(self) -> None:
        shape, bound = (self.num_samples, self.width), math.sqrt(3 / self.width)  # variance as in a unit vector
        for name in ("student_memory", "teacher_memory"):
            start = generator(self.seed, name).uniform(-1, 1, shape) * bound
            self.register_buffer(name, torch.from_numpy(start).float())
        self.register_buffer("labels", torch.full((self.num_samples,), -1))  # -1: not seen yet
        self.register_buffer("normalizers", torch.full((2,), torch.nan))  # estimated from the first batch
        self._has_normalizers = False

    @staticmethod
    def default_layers(layers: Layers) -> tuple[str, ...]:
        """Return the path of the pooled features."""
        return (layers.embedding,)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        """Create both linear maps, and reset the memory, which belongs to earlier maps."""
        self._reset_memory()
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
        """Return ``{"crd"}``, and update the memory with the batch."""
        if target.labels.ndim != 2:
            raise InputError("CRDLoss: needs one label for each sample; this task has one for each position")
        if target.labels.shape[1] != 1:
            raise InputError("CRDLoss: not defined on mixed samples; train with mixup=none")
        if context is None or context.indices is None:
            raise InputError("CRDLoss: needs each sample's index; the loader must yield (images, labels, indices)")
        ((student_features, teacher_features),) = self.pairs(student, teacher)
        student_vectors = F.normalize(at_least_float32(embed(self.student_embedding, student_features)), dim=1)
        teacher_vectors = F.normalize(at_least_float32(embed(self.teacher_embedding, teacher_features)), dim=1)
        samples, labels = gather(context.indices), gather(target.labels[:, 0])
        # Reading the maximum waits for the GPU, so there only the first batch is checked.
        if not (self._has_normalizers and samples.is_cuda) and int(samples.max()) >= self.num_samples:
            raise InputError(f"CRDLoss: num_samples={self.num_samples}, but a sample has index {int(samples.max())}")
        self.labels = self.labels.index_copy(0, samples, labels)
        rank, _ = world()
        local = slice(rank * len(student_vectors), (rank + 1) * len(student_vectors))
        indices = torch.cat([samples[:, None], self._negatives(labels, context)], dim=1)[local]
        if not self._has_normalizers:
            self._estimate_normalizers(student_vectors.detach(), teacher_vectors.detach())
        value = contrastive_representation(
            student_vectors,
            teacher_vectors,
            student_memory=self.student_memory,
            teacher_memory=self.teacher_memory,
            indices=indices,
            normalizers=self.normalizers,
            temperature=self.temperature,
        )
        # The updates create new tensors, since the gradient still needs the old ones.
        self.student_memory = self._updated(self.student_memory, samples, gather(student_vectors.detach()))
        self.teacher_memory = self._updated(self.teacher_memory, samples, gather(teacher_vectors.detach()))
        return {"crd": value}

    def _negatives(self, labels: Tensor, context: StepContext) -> Tensor:
        """Draw K samples of other classes for each label ``(B,)`` of the global batch; return indices ``(B, K)``."""
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

    def _estimate_normalizers(self, student: Tensor, teacher: Tensor) -> None:
        """Estimate both normalizers at the first batch: log of N times the mean of ``exp(a . m / T)`` (Sec. 3.4)."""
        if not bool(self.normalizers.isfinite().all()):  # otherwise a checkpoint has set them
            pairs = ((student, self.teacher_memory), (teacher, self.student_memory))
            with torch.autocast(student.device.type, enabled=False):
                sums = [all_similarities(*pair, self.temperature).logsumexp((0, 1)) for pair in pairs]
            ranks = gather(torch.stack(sums)[None])
            anchors = len(student) * len(ranks)
            estimate = ranks.logsumexp(0) - math.log(anchors)  # the mean over the memory, times N, is its sum
            self.normalizers = estimate.to(self.normalizers.dtype)  # the dtype that a checkpoint stores
        self._has_normalizers = True

    @torch.no_grad()
    def _updated(self, memory: Tensor, indices: Tensor, embeddings: Tensor) -> Tensor:
        mean = self.momentum * memory[indices] + (1 - self.momentum) * embeddings.to(memory.dtype)
        return memory.index_copy(0, indices, F.normalize(mean, dim=1))
