"""The comments of ``conf/``: what a file is, and what each option means."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode

_LINE = re.compile(r"(?P<indent> *)(?P<name>[\w-]+):(?P<value>(?:[^#]|(?<=\S)#)*)(?:\s#\s*(?P<comment>.*))?")


@dataclass(frozen=True)
class Commented:
    """The comments of one file: the lines above its first option, and one comment for an option."""

    header: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)


def read_comments(text: str) -> Commented:
    """Return the comments of a YAML file; an option's comment stands behind it, or in the lines above it."""
    header: list[str] = []
    options: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    above: list[str] = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            comment = line.strip().removeprefix("#").strip()
            if comment.startswith("@package") or not line.strip().startswith("#"):
                continue
            (above if parents else header).append(comment)
            continue
        indent = len(match["indent"])
        while parents and parents[-1][0] >= indent:
            parents.pop()
        parents.append((indent, match["name"]))
        if comment := match["comment"] or " ".join(above):
            options[".".join(name for _, name in parents)] = comment.strip()
        above = []
    return Commented(header, options)


def comments_of(config_path: str, loader: ConfigLoader) -> Commented:
    """Return the comments of a file of ``conf/`` or of a user's folder, by its path without ending."""
    for source in loader.get_sources():
        file = Path(source.path) / f"{config_path}.yaml"
        if source.scheme() == "file" and file.is_file():
            return read_comments(file.read_text(encoding="utf-8"))
    return Commented()


def composed_comments(config_name: str, overrides: list[str], loader: ConfigLoader) -> dict[str, str]:
    """Return the comments of all files that a configuration is composed of, by the dotted names of the options."""
    files = loader.compute_defaults_list(config_name, overrides, RunMode.RUN).defaults
    found: dict[str, str] = {}
    for file in files:
        if file.config_path is None or file.config_path.startswith("hydra/"):
            continue
        prefix = f"{file.package}." if file.package else ""
        found |= {f"{prefix}{name}": comment for name, comment in comments_of(file.config_path, loader).options.items()}
    return found
