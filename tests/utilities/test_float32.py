"""Float32 is float32, whatever torch's settings are, and they stay as they were."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from stkd_lightning.utilities.float32 import _newer_settings, _or_default, exact_float32


def settings() -> dict[str, Any]:
    """Return torch's older settings, ``None`` where it refuses to read them, and its newer ones."""
    older: dict[str, Callable[[], Any]] = {
        "matmul": torch.get_float32_matmul_precision,
        "cublas": torch._C._get_cublas_allow_tf32,
        "cudnn": torch._C._get_cudnn_allow_tf32,
    }
    found = {name: _or_default(read, None) for name, read in older.items()}
    return found | {str(i): operation.fp32_precision for i, operation in enumerate(_newer_settings())}


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = [(operation, operation.fp32_precision) for operation in _newer_settings()]
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for operation, precision in before:
        operation.fp32_precision = precision


def assert_exact() -> None:
    older = {"matmul": "highest", "cublas": False, "cudnn": False}
    assert settings() == older | {str(i): "ieee" for i in range(len(_newer_settings()))}


@pytest.mark.parametrize("matmul", ["highest", "high", "medium"])
@pytest.mark.parametrize("cudnn", [True, False])
def test_exact_float32_sets_all_and_restores_all(matmul: str, cudnn: bool) -> None:
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn
    before = settings()
    with exact_float32():
        assert_exact()
        with exact_float32():
            assert_exact()
        assert_exact()
    assert settings() == before


def test_settings_return_after_an_error() -> None:
    before = settings()
    with pytest.raises(ArithmeticError), exact_float32():
        raise ArithmeticError
    assert settings() == before


@pytest.mark.skipif(not _newer_settings(), reason="torch < 2.9")
@pytest.mark.parametrize("operation", range(5))
def test_exact_float32_accepts_newer_settings_alone(operation: int) -> None:
    """torch refuses to read older settings that disagree with them."""
    _newer_settings()[operation].fp32_precision = "ieee" if operation in (1, 2) else "tf32"
    before = settings()
    with exact_float32():
        assert_exact()
    assert settings() == before


@pytest.mark.parametrize(("matmul", "exact"), [("highest", True), ("high", False), ("medium", False)])
def test_tf32_stays_where_it_was_asked_for(matmul: str, exact: bool) -> None:
    torch.set_float32_matmul_precision(matmul)
    before = settings()
    with exact_float32(unless_asked=True):
        if exact:
            assert_exact()
        else:
            assert settings() == before
    assert settings() == before
