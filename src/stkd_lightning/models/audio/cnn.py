"""Convolutional taggers of the PANNs kind: Kong et al. 2020, Table I (arXiv:1912.10211)."""

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.audio.log_mel import LogMel
from stkd_lightning.models.audio.pooling import Pooling
from stkd_lightning.models.audio.tagger import SpectrogramTagger, Tagger
from stkd_lightning.models.init import initialize
from stkd_lightning.tasks.clips import frame_mask
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import unknown

# Blocks, and the sizes of the convolutions of a block.
KINDS = {"cnn6": (4, (5,)), "cnn10": (4, (3, 3)), "cnn14": (6, (3, 3))}


class ConvolutionBlock(nn.Module):
    """Convolutions with BatchNorm and ReLU, and 2x2 average pooling: ``(B, in, N, M)`` to ``(B, out, N / 2, M / 2)``.

    An axis of one position is not pooled.

    Args:
        width_in: channels of the input.
        width: channels of the output.
        sizes: side of each convolution.
        pool: halve both axes.
    """

    def __init__(self, width_in: int, width: int, sizes: tuple[int, ...], *, pool: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, size in enumerate(sizes):
            convolution = nn.Conv2d(width if i else width_in, width, size, padding=size // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
        self.layers, self.pool = nn.Sequential(*layers), pool

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        return F.avg_pool2d(x, [min(2, side) for side in x.shape[2:]]) if self.pool else x


class CNNFrames(nn.Module):
    """Log-mel spectrograms ``(B, 1, N, mels)`` to frames ``(B, N / 2**(blocks - 1), D)``.

    BatchNorm of each band, the blocks, the mean over the bands, and a linear layer with ReLU for each frame. The last
    block is not pooled, as in CNN14 of PANNs.

    Args:
        kind: ``cnn6``, ``cnn10`` or ``cnn14``.
        width: channels of the first block; each block doubles them. PANNs have 64.
        mels: bands.
        dropout: share in [0, 1) of a block's outputs, and of the inputs of the linear layer, that is dropped.
    """

    def __init__(self, kind: str, width: int, mels: int, dropout: float) -> None:
        super().__init__()
        if kind not in KINDS:
            raise unknown("network", kind, KINDS)
        blocks, sizes = KINDS[kind]
        widths = [1, *(width * 2**i for i in range(blocks))]
        self.normalize = nn.BatchNorm1d(mels)
        self.stages = tuple(f"block{i + 1}" for i in range(blocks))
        for i, stage in enumerate(self.stages):
            self.add_module(stage, ConvolutionBlock(widths[i], widths[i + 1], sizes, pool=i < blocks - 1))
        self.width, self.dropout = widths[-1], dropout
        self.linear = nn.Linear(self.width, self.width)
        initialize(self)

    def forward(self, spectrogram: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return frames; convolutions see zeros at padding, by ``mask`` ``(B, L)`` bool, as beyond a clip's end."""
        x = _silenced(self.normalize(spectrogram[:, 0].transpose(1, 2)).transpose(1, 2)[:, None], mask)
        for stage in self.stages:
            x = _silenced(F.dropout(self.get_submodule(stage)(x), self.dropout, self.training), mask)
        return F.relu(self.linear(F.dropout(x.mean(3).transpose(1, 2), self.dropout, self.training)))


def _silenced(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return maps ``(B, C, N, M)`` with zeros at frames of padding, as the convolutions pad a clip's end."""
    return x if mask is None else x.masked_fill(~frame_mask(x.shape[2], mask)[:, None, :, None], 0)


def cnn(
    num_classes: int,
    kind: str = "cnn6",
    width: int = 64,
    *,
    front_end: LogMel,
    pooling: Pooling = "mean_max",
    dropout: float = 0.0,
    weights: str | Path | None = None,
    weights_key: str | None = None,
) -> Tagger:
    """Build a tagger of the PANNs kind (Kong et al. 2020, arXiv:1912.10211).

    With 10 tags ``cnn6`` has 4.8 M parameters at width 64, 0.30 M at 16 and 20 k at 4. In PANNs the linear layer comes
    after the pooling; here it comes before, so that each frame has scores.

    Args:
        num_classes: C, number of tags.
        kind: ``cnn6``: 4 blocks of one 5x5 convolution; ``cnn10``: 4 of two 3x3 convolutions; ``cnn14``: 6 of these.
        width: channels of the first block.
        front_end: of the network; its bands need not be those of a teacher.
        pooling: kind of ``FramePooling``.
        dropout: share in [0, 1) that is dropped in training.
        weights: checkpoint to load, in any format of ``load_weights``.
        weights_key: which weights of the checkpoint, if several fit.

    Raises:
        InputError: an unknown kind, an argument outside its range, or weights that do not fit.
    """
    width = validation.whole("width", width, minimum=1)
    frames = CNNFrames(kind, width, front_end.mels, validation.unit_interval("dropout", dropout))
    return Tagger(front_end, SpectrogramTagger(frames, num_classes, pooling), weights, weights_key)
