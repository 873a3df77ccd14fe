"""The compact student of the literature on IUSP: a convolution and an LSTM (hardhat5/knowledge-distillation-ust)."""

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.audio.log_mel import LogMel
from stkd_lightning.models.audio.pooling import Pooling
from stkd_lightning.models.audio.tagger import SpectrogramTagger, Tagger
from stkd_lightning.models.init import initialize
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError

SIDE, STRIDE = 5, 2  # of the convolution


class CRNNFrames(nn.Module):
    """Log-mel spectrograms ``(B, 1, N, mels)`` to frames ``(B, (N - 3) / 2, D)``.

    BatchNorm of each band, a 5x5 convolution of stride 2 without padding, BatchNorm, ReLU, and an LSTM over time, which
    does not see what follows: padding at the end of a clip does not change its frames.

    Args:
        channels: of the convolution.
        width: D, of the LSTM.
        mels: bands, 5 or more.
    """

    stages = ("convolution",)

    def __init__(self, channels: int, width: int, mels: int) -> None:
        super().__init__()
        self.width = width
        self.normalize = nn.BatchNorm1d(mels)
        layers = nn.Conv2d(1, channels, SIDE, STRIDE, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        self.convolution = nn.Sequential(*layers)
        self.lstm = nn.LSTM(channels * ((mels - SIDE) // STRIDE + 1), width, batch_first=True)
        initialize(self)

    def forward(self, spectrogram: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.normalize(spectrogram[:, 0].transpose(1, 2)).transpose(1, 2)[:, None]
        if x.shape[2] < SIDE:
            x = F.pad(x, (0, 0, 0, SIDE - x.shape[2]))
        return self.lstm(self.convolution(x).transpose(1, 2).flatten(2))[0]


def crnn(
    num_classes: int,
    channels: int = 32,
    width: int = 64,
    *,
    front_end: LogMel,
    pooling: Pooling = "mean",
    weights: str | Path | None = None,
    weights_key: str | None = None,
) -> Tagger:
    """Build a convolutional recurrent tagger; with 10 tags and 20 bands it has 84 k parameters.

    Args:
        num_classes: C, number of tags.
        channels: of the convolution.
        width: of the LSTM.
        front_end: of the network; its bands need not be those of a teacher.
        pooling: kind of ``FramePooling``.
        weights: checkpoint to load, in any format of ``load_weights``.
        weights_key: which weights of the checkpoint, if several fit.

    Raises:
        InputError: an argument outside its range, or weights that do not fit.
    """
    if front_end.mels < SIDE:
        raise InputError(f"front_end.mels={front_end.mels}: the convolution needs {SIDE} bands at least")
    channels, width = (validation.whole(n, v, minimum=1) for n, v in (("channels", channels), ("width", width)))
    frames = CRNNFrames(channels, width, front_end.mels)
    return Tagger(front_end, SpectrogramTagger(frames, num_classes, pooling), weights, weights_key)
