"""Checkpoints of students that nobody trained, as a run writes them."""

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import nn

from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.models.build import build_network, input_facts

ZOO = {"_target_": "stkd_lightning.models.create_model", "name": "resnet8", "num_classes": 10, "weights": None}
SQUEEZENET = {
    "_target_": "stkd_lightning.models.torchvision_model",
    "name": "squeezenet1_1",
    "num_classes": 10,
    "pretrained": True,  # of which a checkpoint's network must not start anew
    "input_size": 32,
}
REUSING = {
    "_target_": "stkd_lightning.models.reuse_classifier",
    "student": ZOO,
    "teacher": {**ZOO, "name": "resnet8x4"},
    "reduction": 2,
}
SPIRIT = {
    "_target_": "stkd_lightning.models.spirit_student",
    "student": ZOO,
    "teacher": {**ZOO, "name": "resnet8x4"},
    "student_cut": "layer2",
    "teacher_cut": "layer2",
    "head": "teacher",
    "rest_rate": 0.1,
    "image_size": 32,
}
NETWORKS = {"zoo": ZOO, "adapted": SQUEEZENET, "reusing": REUSING, "spirit": SPIRIT}
DATA = {
    "name": "digits",
    "num_classes": 10,
    "class_names": list("0123456789"),
    "digest": "d" * 64,
    "mean": [0.3, 0.4, 0.5],
    "std": [0.2, 0.25, 0.3],
}


def settled(network: nn.Module) -> nn.Module:
    """Give BatchNorm statistics that are not those that it starts with, and weights that tell classes apart."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator).mul_(0.1)
            module.running_var.uniform_(0.5, 2, generator=generator)
        if isinstance(module, nn.Linear):
            module.weight.data.mul_(5)
    return network.eval()


def checkpoint(
    run: Path, kind: str = "zoo", size: int = 8, dataset: dict[str, Any] | None = None, **data: Any
) -> tuple[Path, nn.Module]:
    """Write the selected student of a run, and its summary; return the file and the network.

    Args:
        run: folder of the run.
        kind: of the network.
        size: side of the data's images.
        dataset: node; default the digits.
        data: facts of the data in place of those above.
    """
    facts = {**DATA, "image_size": size, **data}
    node = {**NETWORKS[kind]}
    images = StudentFacts(
        node, {}, tuple(facts["class_names"]), tuple(facts["mean"]), tuple(facts["std"]), size, about={}
    )
    start = {"pretrained": False} if "pretrained" in node else {}
    network = settled(build_network(OmegaConf.create({**node, **start}), images, seed=1))
    config: dict[str, Any] = {
        "student": ZOO if kind in ("reusing", "spirit") else node,
        "distilled": node if kind in ("reusing", "spirit") else None,
        "dataset": dataset or {"_target_": "stkd_lightning.data.DigitsDataModule", "data_dir": "/home/me/data"},
        "teacher": {"network": {**ZOO, "name": "resnet20"}, "checkpoint": "/home/me/secret.pth"},
        "method": "stkd",
        "loss": {"_target_": "stkd_lightning.losses.STKDLoss", "alpha": 0.9, "temperature": 4.0},
        "mixup": {"_target_": "stkd_lightning.distillation.mixup.Mixup", "alpha": 0.2, "probability": 1.0},
        "trainer": {"max_epochs": 8},
        "seed": 0,
    }
    content = {
        "state_dict": {f"student.{k}": v for k, v in network.state_dict().items()},
        "stkd_lightning": {
            "config": config,
            "data": facts,
            "input": input_facts(network, images),
            "teacher": "t" * 64,
        },
    }
    (run / "checkpoints").mkdir(parents=True)
    torch.save(content, run / "checkpoints" / "best.ckpt")
    row = {"parameters": 78_042, "flops": 1_600_000}

    def test(accuracy: float) -> dict[str, Any]:
        return {"last": {"accuracy": accuracy}, "selected": {"accuracy": accuracy + 0.01, "top5": 0.99}}

    summary = {
        "data": facts,
        "student": {**row, "network": "resnet8", "test": test(0.9)},
        "teacher": {**row, "network": "resnet20", "test": test(0.95), "source": "/home/me/secret.pth"},
        "baseline": {**row, "network": "resnet8", "test": test(0.8)},
    }
    (run / "summary.json").write_text(json.dumps(summary))
    return run / "checkpoints" / "best.ckpt", network
