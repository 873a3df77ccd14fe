"""A training step of every shipped network, channels last, on images of 240x180.

Steps run in a child process, since a faulty kernel ends the process without an error; see ``models/pointwise.py``.
"""

import json
import subprocess
import sys
from typing import Any

import pytest

from stkd_lightning.models import list_models

MODELS = "stkd_lightning.models"
ARCHITECTURES = [
    "Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet",
    "Segformer",
]  # fmt: skip
TORCHVISION = ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large", "fcn_resnet50"]
SEGMENTATION: list[dict[str, Any]] = [
    *({"_target_": f"{MODELS}.DilatedResNet", "width": width} for width in (1, 2, 4, 8, 12, 24)),
    *({"_target_": f"{MODELS}.smp_model", "name": name, "encoder": "mobilenet_v2"} for name in ARCHITECTURES),
    *({"_target_": f"{MODELS}.smp_model", "name": "FPN", "encoder": encoder} for encoder in ("resnet18", "mit_b0")),
    *({"_target_": f"{MODELS}.torchvision_segmentation_model", "name": name} for name in TORCHVISION),
]
CLASSIFICATION: list[dict[str, Any]] = [{"_target_": f"{MODELS}.create_model", "name": name} for name in list_models()]
STEPS = """
import json
import sys
import torch
from hydra.utils import instantiate
from torch.nn import functional as F
from stkd_lightning.models.memory_format import channels_last, images_channels_last

images = images_channels_last(torch.randn(2, 3, 180, 240))
for node in json.loads(sys.argv[1]):
    network = channels_last(instantiate(node, num_classes=11)).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    logits = network(images)
    F.cross_entropy(logits, torch.zeros(2, *logits.shape[2:], dtype=torch.int64)).backward()
    optimizer.step()
    assert all(parameter.isfinite().all() for parameter in network.parameters()), node
    print(json.dumps(node), flush=True)
"""


@pytest.mark.parametrize(
    "nodes",
    [SEGMENTATION, pytest.param(CLASSIFICATION, marks=pytest.mark.slow)],
    ids=["segmentation", "classification"],
)
def test_every_network_takes_a_training_step(nodes: list[dict[str, Any]]) -> None:
    child = subprocess.run([sys.executable, "-c", STEPS, json.dumps(nodes)], capture_output=True, text=True)
    finished = [json.loads(line) for line in child.stdout.splitlines()]
    assert finished == nodes, f"the next one failed with status {child.returncode}: {child.stderr[-2000:]}"
    assert child.returncode == 0, child.stderr
