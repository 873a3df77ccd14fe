"""The work of operators that torch's counter does not know is counted or named."""

import warnings
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models.cost import flops


def counted(network: nn.Module, size: int = 8) -> int:
    """Return the operations of a network; a warning is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return flops(network, size)


class Rows(nn.Module):
    """A layer over the rows of an image, ``(1, 8, 8)``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        rows = images[:, 0]
        if isinstance(self.layer, nn.MultiheadAttention):
            return self.layer(rows, rows, rows, need_weights=False)[0]
        output = self.layer(rows)
        return output[0] if isinstance(output, tuple) else output


ATTENTION = 4 * 8 * 8 * 8 + 2 * 8 * 8 * 8  # in 8 rows of 8: three projections, one after them, and two products


@pytest.mark.parametrize(
    ("layer", "products"),
    [
        (nn.MultiheadAttention(8, 2, batch_first=True), ATTENTION),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), ATTENTION + 2 * 8 * 8 * 16),
        (nn.LSTM(8, 5, bidirectional=True), 2 * 8 * 4 * 5 * (8 + 5)),
        (nn.GRU(8, 5), 8 * 3 * 5 * (8 + 5)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_flops_of_fused_layers(layer: nn.Module, products: int) -> None:
    assert counted(Rows(layer)) == 2 * products


def test_flops_of_a_vision_transformer() -> None:
    assert counted(torchvision.models.vit_b_16(), 224) == pytest.approx(2 * 17.6e9, rel=0.005)
    assert torch.backends.mha.get_fastpath_enabled()


class Calls(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def test_flops_of_products_with_vectors() -> None:
    assert counted(Calls(lambda x: x[0, 0] @ x[0, 0, 0])) == 2 * 8 * 8
    assert counted(Calls(lambda x: x[0, 0, 0] @ x[0, 0, 0])) == 2 * 8
    assert counted(Calls(lambda x: torch.addmv(x[0, 0, 0], x[0, 0], x[0, 0, 0]))) == 2 * 8 * 8


def test_flops_of_moved_numbers_are_none() -> None:
    def moved(x: Tensor) -> Tensor:
        x = torch.cat([x, x]).clone()
        x[:, 0] = x[:, 1]
        x[x > 1] = 0
        return F.layer_norm(torch.where(x > 0, x, x * x), [8, 8], x[0, 0], x[0, 1]) + torch.stack([x[0], x[1]])

    assert counted(Calls(moved)) == 0


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: torch.cdist(x, x), "aten::_cdist_forward"),
        (lambda x: torch.linalg.inv(x[0, 0] + torch.eye(8)), "aten::linalg_inv_ex"),
        (
            lambda x: torchvision.ops.deform_conv2d(x, torch.zeros(1, 18, 8, 8), torch.zeros(4, 3, 3, 3), padding=1),
            "torchvision::deform_conv2d",
        ),
    ],
)
def test_flops_that_are_not_counted_are_named(function: Callable[[Tensor], Tensor], name: str) -> None:
    with pytest.warns(UserWarning, match=f"Calls: its FLOPs leave out the work of {name}"):
        flops(Calls(function), 8)


def test_flops_of_an_own_attention_kernel_are_named() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def attend(x: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(x, x, x)

    with pytest.warns(UserWarning, match="_scaled_dot_product_flash_attention"):
        flops(Calls(attend), 8)


def test_norms_are_light_work() -> None:
    class Normalized(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return F.normalize(images.flatten(1))

    assert counted(Normalized()) == 0
