"""Every configuration that ships, as it composes; ``python -m tests.commands.config.composed`` writes composed.json."""

import json
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from stkd_lightning.utilities.paths import conf_dir

FILE = Path(__file__).with_name("composed.json")
COMMANDS = ("train", "evaluate", "predict", "export", "report", "cache")


def flat(node: Any, name: str = "") -> dict[str, Any]:
    """Return nested containers as one dictionary by dotted names."""
    if isinstance(node, dict) and node:
        return {k: v for key, value in node.items() for k, v in flat(value, f"{name}.{key}" if name else key).items()}
    return {name: node}


def composed(command: str, *overrides: str) -> dict[str, Any]:
    """Compose a command's configuration, without Hydra's own part; interpolations stay as they are written."""
    return flat(OmegaConf.to_container(compose(command, list(overrides)), resolve=False))


def variants() -> list[str]:
    """Return each choice of each group of the training's configuration as an override."""
    conf = conf_dir()
    groups = ("dataset", "student", "teacher", "loss", "mixup", "optimizer", "scheduler", "trainer", "logger",
              "callbacks", "experiment")  # fmt: skip
    return [
        f"{group}={path.relative_to(conf / group).with_suffix('')}"
        for group in groups
        for path in sorted((conf / group).rglob("*.yaml"))
        if not path.stem.startswith("_")
    ]


def everything() -> dict[str, dict[str, Any]]:
    """Compose every command as it is, and the training with each choice, told by what it changes."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        plain = {command: composed(command) for command in COMMANDS}
        made = {}
        for override in variants():
            own = composed("train", override)
            changed = {k: v for k, v in own.items() if k not in plain["train"] or plain["train"][k] != v}
            made[override] = changed | {k: "(absent)" for k in plain["train"] if k not in own}
        formats = {f"export format={p.stem}": composed("export", f"format={p.stem}")
                   for p in sorted((conf_dir() / "format").glob("*.yaml"))}  # fmt: skip
    return {**plain, **made, **formats}


if __name__ == "__main__":
    FILE.write_text(json.dumps(everything(), indent=1, sort_keys=True) + "\n")
