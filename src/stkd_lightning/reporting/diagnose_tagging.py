"""Diagnostics of a tagging student: precision-recall curves, frame similarities, and clips to look at."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_precision_recall_curve

from stkd_lightning.models.audio.log_mel import LogMel
from stkd_lightning.reporting.diagnostics_file import Array
from stkd_lightning.reporting.tagging_diagnostics import FRAMES, GALLERY, RECALLS, TaggingDiagnostics
from stkd_lightning.tasks.clips import split_clips
from stkd_lightning.tasks.tagging_metrics import UNKNOWN
from stkd_lightning.tasks.types import Batch

Network = Callable[[Tensor], Tensor]
BANDS, COLUMNS = 64, 256  # of a spectrogram in the gallery
EMPTY = np.zeros(0, np.float32)


@dataclass(frozen=True)
class HeardNetwork:
    """A network as diagnostics see it, in evaluation mode.

    Attributes:
        logits: inputs to logits ``(B, C)``.
        frames: inputs to frames ``(B, T, d)`` and their logits ``(B, T, C)``; ``None`` if the network has no frames.
    """

    logits: Network
    frames: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None


@torch.no_grad()
def diagnose_tagging(
    student: HeardNetwork,
    teacher: HeardNetwork | None,
    batches: Iterable[Batch],
    again: Callable[[int], Tensor],
    *,
    device: torch.device,
    sample_rate: int | None,
    available: int | None = None,
) -> TaggingDiagnostics:
    """Measure a student and its teacher on samples that they were not trained on.

    Samples of the gallery are read a second time.

    Args:
        student: the student.
        teacher: ``None`` without a teacher.
        batches: clips or images with their tags.
        again: from a position among them to an input ``(1, ...)``.
        device: of both networks.
        sample_rate: Hz of clips; ``None`` for images, of which no spectrogram is drawn.
        available: number of samples; ``None``: the batches hold all of them.
    """
    networks = {"student": student} if teacher is None else {"student": student, "teacher": teacher}
    logits: dict[str, list[Tensor]] = {name: [] for name in networks}
    labels = []
    for batch in batches:
        for name, network in networks.items():
            logits[name].append(network.logits(batch.inputs.to(device)).float().cpu())
        labels.append(batch.labels.cpu())
    tags, scores = torch.cat(labels), {name: torch.cat(parts).sigmoid() for name, parts in logits.items()}
    chosen = _chosen(scores["student"], tags)
    clips = [_alone(again(i).to(device)) for i in chosen] if sample_rate else []
    first = again(0).to(device)
    return TaggingDiagnostics(
        images=np.asarray(len(tags)),
        available=np.asarray(len(tags) if available is None else available),
        student_curve=_curve(scores["student"], tags),
        teacher_curve=_curve(scores["teacher"], tags) if teacher else EMPTY,
        student_similarity=_similarity(student, first),
        teacher_similarity=_similarity(teacher, first) if teacher else EMPTY.reshape(0, 0),
        shown=_spectrograms(clips, sample_rate),
        shown_seconds=np.array([clip.shape[1] / sample_rate for clip in clips] if sample_rate else [], np.float32),
        shown_labels=tags[chosen].numpy(),
        student_shown=scores["student"][chosen].numpy(),
        teacher_shown=scores["teacher"][chosen].numpy() if teacher else EMPTY.reshape(0, 0),
        student_frames=_frame_scores(student, clips),
    )


def _chosen(scores: Tensor, labels: Tensor) -> list[int]:
    """Return positions of samples of the largest, of medium and of the smallest error, by descending error."""
    known = labels != UNKNOWN
    error = F.binary_cross_entropy(scores, labels.where(known, 0).float(), reduction="none").where(known, 0).sum(1)
    order = error.argsort(descending=True, stable=True).tolist()
    middle = len(order) // 2
    return order if len(order) <= GALLERY else [*order[:2], *order[middle - 1 : middle + 1], *order[-2:]]


def _alone(clip: Tensor) -> Tensor:
    """Return a clip ``(1, T)`` without its padding."""
    waveform, mask = split_clips(clip)
    return waveform if mask is None else waveform[:, : int(mask.sum())]


def _curve(scores: Tensor, labels: Tensor) -> Array:
    """Return the largest precision from each recall on; zeros without a positive."""
    known = labels != UNKNOWN
    if not (labels[known] == 1).any():
        return np.zeros_like(RECALLS, dtype=np.float32)
    precision, recall, _ = binary_precision_recall_curve(scores[known], labels[known], validate_args=False)
    best = np.maximum.accumulate(precision.numpy())  # the recall falls
    return best[len(best) - 1 - np.searchsorted(recall.numpy()[::-1], RECALLS - 1e-7)].astype(np.float32)


def _pooled(values: Tensor) -> Tensor:
    """Average values ``(B, T, d)`` to at most ``FRAMES`` frames."""
    length = min(FRAMES, values.shape[1])
    return F.adaptive_avg_pool1d(values.float().transpose(1, 2), length).transpose(1, 2)


def _similarity(network: HeardNetwork, clip: Tensor) -> Array:
    if network.frames is None:
        return EMPTY.reshape(0, 0)
    (frames,) = _pooled(network.frames(_alone(clip))[0])
    return F.normalize(frames @ frames.T, dim=1).cpu().numpy()


def _frame_scores(network: HeardNetwork, clips: list[Tensor]) -> Array:
    if network.frames is None or not clips:
        return EMPTY.reshape(0, 0, 0)
    scores = [network.frames(clip)[1].float().sigmoid().transpose(1, 2) for clip in clips]
    return torch.cat([F.interpolate(score, FRAMES, mode="nearest") for score in scores]).cpu().numpy()


def _spectrograms(clips: list[Tensor], sample_rate: int | None) -> Array:
    """Return spectrograms of windows of 25 ms up to the highest frequency, whatever the networks read."""
    if not clips or not sample_rate:
        return np.zeros((0, 0, 0), np.uint8)
    window = max(2, sample_rate // 40)
    hop = max(1, window * 2 // 5)
    front_end = LogMel(sample_rate, mels=BANDS, window=window, hop=hop, n_fft=8 * window, f_min=0.0, f_max=None)
    pictures = []
    for clip in clips:
        levels = F.interpolate(front_end(clip.float().cpu()).transpose(2, 3), (BANDS, COLUMNS), mode="bilinear")
        low, high = levels.min(), levels.max()
        pictures.append((255 * (levels - low) / (high - low).clamp(min=1e-6)).round().byte()[0, 0])
    return torch.stack(pictures).numpy()
