"""Damage to the folder of a finished run: of its bytes, its values and its kinds of files."""

import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from tests.faults.mutations import DAMAGE

PLAIN = ("summary.json", "config.yaml")
FILES = (*PLAIN, "metrics.csv", "diagnostics.npz", "checkpoints/best.ckpt")
Mutation = Callable[[Path, random.Random, Path], str]


def copied(run: Path, folder: Path) -> Path:
    """Return a copy of a run; its files are links until ``replaced`` writes them."""
    shutil.copytree(run, folder, copy_function=os.link)
    return folder


def replaced(path: Path, content: bytes) -> None:
    """Write a file without a change to the files that it is linked with."""
    path.unlink()
    path.write_bytes(content)


def read(path: Path) -> bytes:
    """Return the content of a file that no mutation made endless.

    Raises:
        OSError: there is no such file any more.
    """
    if not path.is_file() or path.stat().st_size > 1 << 26:
        raise FileNotFoundError(path)
    return path.read_bytes()


def deep(levels: int = 3000) -> Any:
    """Return lists inside each other."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def shared(levels: int = 9) -> Any:
    """Return lists that refer ten times to the next one each: a kilobyte that stands for gigabytes."""
    value: Any = "x"
    for _ in range(levels):
        value = [value] * 10
    return value


def cycle() -> Any:
    """Return a list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


def values(canary: Path) -> list[Any]:
    """Return values of wrong type, size or intention; those that are executed leave the canary."""
    call = {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": [str(canary)]}]}
    return [
        None, True, -1, 0, 1, 4096, 10**7, 2**63, 2**70, -(2**70), 10**400, 0.5, 1e308, -1e308, float("inf"),
        float("nan"), [0.5] * 3, [float("nan")] * 3, [], {}, [[]], {"": {}}, ["x"] * 1000,
        "", "x" * 100_000, "\ud800", "=1+1", "<script>alert(1)</script>", "[/]x[bold]", "\x1b[31m\u202e", "${seed}",
        "${oc.env:HOME}", "${", "???", "猫", "a\nb|c", "../../../etc/passwd", "/dev/zero",
        {"last": {}}, {"last": {"accuracy": 2}}, {"size": 4096}, {"size": -1}, call,
        {"_target_": "os.system", "command": f"touch {canary}"}, f"__import__('os').system('touch {canary}')",
    ]  # fmt: skip


def _containers(node: Any) -> list[Any]:
    below = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
    inner = [c for child in below if isinstance(child, dict | list) for c in _containers(child)]
    return [node, *inner] if below else inner


def changed(content: Any, random_: random.Random, value: Any) -> str:
    """Put a value at a place of nested containers, or remove what is there; return what was done."""
    container = random_.choice(_containers(content))
    key = random_.choice(list(container)) if isinstance(container, dict) else random_.randrange(len(container))
    if random_.random() < 0.1:
        del container[key]
        return f"without {key}"
    container[key] = value
    return f"{key}={str(value)[:40]}"


def of_bytes(run: Path, random_: random.Random, canary: Path) -> str:
    path, damage = run / random_.choice(FILES), random_.choice(DAMAGE)
    replaced(path, damage(read(path), random_))
    return f"{path.name} {damage.__name__}"


def of_values(run: Path, random_: random.Random, canary: Path) -> str:
    path = run / random_.choice((PLAIN[0], *PLAIN))
    content = yaml.load(read(path), yaml.CSafeLoader)
    what = changed(content, random_, random_.choice([*values(canary), deep(), deep(60)]))
    try:
        text = json.dumps(content)
    except RecursionError:  # as deep as this
        text = read(path).decode().replace("0", "[" * 3000, 1)
    replaced(path, text.encode())
    return f"{path.name}: {what}"


def of_text(run: Path, random_: random.Random, canary: Path) -> str:
    """Write a file that is hostile as a whole."""
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    texts = {
        "config.yaml": [bomb, "a: &a [*a]", "[" * 3000, "{a: " * 3000, "[" * 500, "- " * 3000, "1:" * 300_000 + "1",
                        "a: " + "[], " * 200_000, "teacher: []", "seed", "<<: {a: 1}", "? [a]\n: b", "\x00",
                        f"!!python/object/apply:os.system ['touch {canary}']"],
        "summary.json": ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "{}", "null", '"text"',
                         "[" + "[]," * 2_000_000 + "[]]"],
        "metrics.csv": [f"epoch,val/accuracy\n{rows}" for rows in (
                            "1,0.5\n" * 1_000_000, "1e300,1\n", "nan,inf\n", "1,inf\n2,1e308\n3,nan\n", "1,=1+1\n",
                            "1,1,1\n", "".join(f"{i},0.5\n" for i in range(100_000)))]
                       + ["val/accuracy\n1\n", "epoch," + "val/a," * 200_000, "\x00", "epoch\n" * 9,
                          '"' + "x" * 300_000, "," * 3_000_000],
    }  # fmt: skip
    name = random_.choice(list(texts))
    text = random_.choice(texts[name])
    replaced(run / name, text.encode())
    return f"{name}: {text[:40]!r}"


class Executed:
    """Leaves the canary when a pickle of it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.canary,)


TENSORS = (torch.zeros(0), torch.zeros(1), torch.full((3, 3), float("nan")), torch.zeros(1, dtype=torch.int8), None,
           "text", torch.zeros(1).expand(10**10), torch.zeros(2, 2).to_sparse(),
           torch.zeros(4, device="meta"))  # fmt: skip
STATES: tuple[Any, ...] = ({}, None, [], {"a": 1}, {1: torch.zeros(1)}, {"x" * 10_000: torch.zeros(1)})


def of_checkpoint(run: Path, random_: random.Random, canary: Path) -> str:
    path = run / "checkpoints" / "best.ckpt"
    content = torch.load(io.BytesIO(read(path)), weights_only=True)
    origin, state = content["stkd_lightning"], content["state_dict"]
    hostile = [*values(canary), deep(), shared(), cycle(), torch.zeros(3), {"a": shared()}, ["a"] * 1_000_000]
    kind = random_.choice(["origin", "origin", "data", "tensor", "all", "pickle", "state"])
    what = ""
    if kind == "origin":
        what = changed(origin, random_, random_.choice(hostile))
    elif kind == "data":
        what = changed(origin["data"], random_, random_.choice(hostile))
    elif kind == "tensor":
        key = random_.choice(list(state))
        state[key] = random_.choice([*TENSORS, torch.zeros(1).expand(state[key].shape), -state[key].double()])
        what = f"{key} is {type(state[key]).__name__} {getattr(state[key], 'shape', '')}"
    elif kind == "all":
        content["stkd_lightning"] = random_.choice(hostile)
    elif kind == "pickle":
        random_.choice([content, origin, origin["config"], state])["more"] = Executed(canary)
    else:
        content["state_dict"] = random_.choice(STATES)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    replaced(path, buffer.getvalue())
    return f"best.ckpt: {kind} {what}"


def of_arrays(run: Path, random_: random.Random, canary: Path) -> str:
    path = run / "diagnostics.npz"
    with np.load(io.BytesIO(read(path))) as file:
        arrays = dict(file)
    name = random_.choice(list(arrays))
    shape = arrays[name].shape
    arrays[name] = random_.choice([
        np.zeros(0), np.zeros((2, 2)), np.full(shape, np.nan), np.full(shape, 1e300), arrays[name][..., None],
        -np.ones(shape), np.zeros(shape, complex), np.zeros(shape, int), np.array(["x"]),
        np.array([Executed(canary)], dtype=object),
        np.zeros((30_000, 3000), np.uint8), np.zeros((20_000, 15_000), np.uint8),
    ])  # fmt: skip
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    if random_.random() < 0.1:
        with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("more.npy", bytes(1 << 28))
    replaced(path, buffer.getvalue())
    return f"diagnostics.npz: {name} is {arrays[name].dtype} {arrays[name].shape}"


def of_kind(run: Path, random_: random.Random, canary: Path) -> str:
    path = run / random_.choice(FILES)
    kind = random_.choice(["pipe", "zero", "loop", "folder", "dangling", "sparse", "missing", "self"])
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif kind != "missing":
        path.symlink_to({"zero": "/dev/zero", "loop": path.name, "dangling": "nothing", "self": ".."}[kind])
    return f"{path.name} is a {kind}"


REPORTED: tuple[Mutation, ...] = (of_bytes, of_values, of_values, of_text, of_arrays, of_kind)
LOADED: tuple[Mutation, ...] = (of_bytes, of_checkpoint, of_checkpoint, of_checkpoint, of_kind, of_values)


def mutated(run: Path, folder: Path, seed: int, canary: Path, mutations: tuple[Mutation, ...]) -> str:
    """Write a copy of a run with one to three mutations, always the same for a seed; return what was done."""
    random_ = random.Random(seed)
    copied(run, folder)
    return f"seed {seed}: " + "; ".join(
        _attempt(random_.choice(mutations), folder, random_, canary) for _ in range(random_.choice([1, 1, 2, 3]))
    )


def _attempt(mutation: Mutation, folder: Path, random_: random.Random, canary: Path) -> str:
    try:
        return mutation(folder, random_, canary)
    except Exception as error:  # an earlier mutation left nothing to mutate
        return f"nothing more ({type(error).__name__})"
