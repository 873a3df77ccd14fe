"""Code that is generated for a network."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
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


@pytest.mark.parametrize(
    ("device", "graphs", "mode"),
    [("cuda", True, "reduce-overhead"), ("cuda", False, None), ("cpu", True, None), ("mps", True, None)],
)
def test_device_of_the_images_chooses_cuda_graphs(
    device: str, graphs: bool, mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training on the CPU of a machine with a GPU too."""
    modes: list[str | None] = []

    def record(run: memory_format.Run, *, dynamic: bool, mode: str | None) -> memory_format.Run:
        modes.append(mode)
        return run

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "compile", record)
    call = memory_format.compiled(lambda images: (images, {}), graphs=graphs)
    images: Any = SimpleNamespace(device=torch.device(device))
    assert call(images) == call(images) == (images, {})
    assert modes == [mode]


def test_isolated_functions_have_code_of_their_own() -> None:
    def double(number: int, *, plus: int = 0) -> int:
        return 2 * number + plus

    first, second = memory_format.isolated(double), memory_format.isolated(double)
    assert first(3, plus=1) == second(3, plus=1) == 7
    assert first.__code__ is not second.__code__


def test_no_isolated_function_of_twelve_runs_eager() -> None:
    """The recompile limit is 8 for each code object; a function over it runs eager, without an error."""
    torch._dynamo.reset()
    calls: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        def run(*arguments: Any) -> Any:
            calls.append(graph.code)
            return graph(*arguments)

        return run

    for i in range(12):
        code = torch.compile(memory_format.isolated(lambda x, i=i: x + i), backend=backend, dynamic=False)
        assert float(code(torch.zeros(()))) == i
    assert len(calls) == 12
    torch._dynamo.reset()


def test_compiled_network_stays_whole_inside_ddp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The compiler's default cuts a network at DDP's buckets."""

    class Training(nn.Module):
        def __init__(self, network: nn.Module, run: Any) -> None:
            super().__init__()
            self.network, self.run = network, run

        def forward(self, images: Tensor) -> Tensor:
            return self.run(images)[0]

    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph

    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda run, **_: compiler(run, dynamic=False, backend=backend))
    network = create_model("resnet8", num_classes=10)
    tap = FeatureTap(network, ["layer2"])
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        torch._dynamo.reset()
        training = Training(network, memory_format.compiled(tap.parts))
        ddp = nn.parallel.DistributedDataParallel(training, bucket_cap_mb=0.01)
        images = torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(ddp(images), tap(images).logits)
        assert len(graphs) == 1
        assert torch._dynamo.config.optimize_ddp
    finally:
        torch.distributed.destroy_process_group()
        torch._dynamo.reset()
