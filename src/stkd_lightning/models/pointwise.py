"""Strided 1x1 convolutions of few channels, whose backward on CPUs ends the process."""

from torch import Tensor, nn
from torch.nn import functional as F

FEW = 16  # oneDNN's kernels for AVX-512 handle blocks of so many channels, those for AVX2 of half as many


class StridedPointwise(nn.Conv2d):
    """A strided 1x1 convolution, computed on CPUs without a stride from the pixels that the stride selects.

    The result is the same. With a stride and fewer input channels than a block, oneDNN's backward for channels last
    writes outside of its memory: torch 2.14.1 with oneDNN 3.12.0, 2 to 15 channels, float32. Contiguous images and
    weights would not help, since the compiler makes them channels last.
    """

    def _get_name(self) -> str:
        return nn.Conv2d.__name__

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of images ``(B, C, H, W)``."""
        if input.device.type != "cpu":
            return super().forward(input)
        rows, columns = self.stride
        return F.conv2d(input[..., ::rows, ::columns], self.weight, self.bias)


def without_stride(network: nn.Module) -> None:
    """Make a network's strided 1x1 convolutions of few channels ``StridedPointwise``, in place.

    Subclasses of ``nn.Conv2d`` stay, since they may compute something else.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_unsafe(module):
            module.__class__ = StridedPointwise


def _is_unsafe(convolution: nn.Conv2d) -> bool:
    strided = convolution.kernel_size == (1, 1) and convolution.stride != (1, 1)
    unpadded = convolution.padding in ((0, 0), "valid")
    return strided and unpadded and convolution.groups == 1 and convolution.in_channels < FEW
