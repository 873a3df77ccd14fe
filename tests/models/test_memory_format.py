"""Code that is generated for a network."""

from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from stkd_lightning.models import FeatureTap, create_model, memory_format


def test_twelve_compiled_networks_share_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal networks that keep other features; the compiler's guards do not see hooks, and it keeps 8 versions."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda run, **_: partial(compiler, dynamic=False, backend="aot_eager")(run))
    torch._dynamo.reset()
    counters.clear()
    images = torch.randn(4, 3, 8, 8)
    for i in range(12):
        paths = ([], ["layer3"], ["layer1", "avgpool"])[i % 3]
        tap = FeatureTap(create_model("resnet8", num_classes=10).eval(), paths)
        logits, features = memory_format.compiled(tap.parts)(images)
        expected = tap(images)
        torch.testing.assert_close(logits, expected.logits)
        assert sorted(features) == sorted(paths)
    assert counters["stats"]["unique_graphs"] == 12
