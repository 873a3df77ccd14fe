"""The values that options can take, known before torch is loaded."""

from typing import Literal

Sampler = Literal["shuffled", "class_uniform", "superclass_uniform"]

OnError = Literal["refuse", "skip"]

Storage = Literal["prepared", "streamed", "auto"]

Policy = Literal["trivial", "randaugment"]

SAMPLERS = ("shuffled", "class_uniform", "superclass_uniform")
ON_ERROR = ("refuse", "skip")
STORAGES = ("prepared", "streamed", "auto")
POLICIES = ("trivial", "randaugment")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")  # Lightning's names
DEVICES = ("auto", "cpu", "cuda", "mps")
CACHE_KINDS = ("data", "trained", "accuracy", "replay", "compiled", "leftovers")
