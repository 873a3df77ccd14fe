import pytest
import torch
from torch import Tensor, nn

from stkd_lightning.reporting.latency import latencies
from stkd_lightning.utilities.errors import InputError


def test_networks_take_turns() -> None:
    calls: list[str] = []

    def network(name: str) -> "nn.Module":
        class Network(nn.Module):
            def forward(self, images: Tensor) -> Tensor:
                assert torch.is_inference_mode_enabled()
                calls.append(name)
                return images

        return Network()

    found = latencies({"one": network("one"), "other": network("other")}, torch.zeros(1), rounds=3)
    assert found.keys() == {"one", "other"}
    assert all(seconds > 0 for seconds in found.values())
    assert "".join(name[1] for name in calls).endswith("nntt" * 3)
    with pytest.raises(InputError, match="rounds=0: must be a whole number of at least 1"):
        latencies({}, torch.zeros(1), rounds=0)
