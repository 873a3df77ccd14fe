"""Small classifiers of Hugging Face in a folder, as ``save_pretrained`` writes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SIDE = 16
OPTIONS: dict[str, dict[str, Any]] = {
    "vit": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
            "image_size": SIDE, "patch_size": 8},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "convnext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "patch_size": 2},
}  # fmt: skip


def saved(kind: str, folder: Path, *, classes: int, names: Sequence[str] = ()) -> Any:
    """Write a network of random weights and its image processor to a folder, and return the network."""
    from transformers import AutoConfig, AutoModelForImageClassification, ViTImageProcessor

    config = AutoConfig.for_model(kind, num_labels=classes, **OPTIONS[kind])
    if names:
        config.id2label = dict(enumerate(names))
        config.label2id = {name: i for i, name in enumerate(names)}
    network = AutoModelForImageClassification.from_config(config)
    network.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    ViTImageProcessor(size=size, image_mean=[0.1, 0.2, 0.3], image_std=[0.5] * 3, resample=3).save_pretrained(folder)
    return network
