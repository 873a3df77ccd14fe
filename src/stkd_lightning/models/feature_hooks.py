"""Read the features inside a network, without changes of its code."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from stkd_lightning.models.input_adapter import AdaptedInput
from stkd_lightning.models.logits import feature_of, logits_of
from stkd_lightning.tasks.types import ModelOutput
from stkd_lightning.utilities.errors import unknown


def inner_network(network: nn.Module) -> nn.Module:
    """Return a network without the ``AdaptedInput`` before it."""
    return network.network if isinstance(network, AdaptedInput) else network


# After a path, in place of the module's output:
INPUT = ":input"  # its first input
WEIGHT = ":weight"  # its weight, which carries a gradient if it is trained


def module_path(path: str) -> str:
    """Return a path without ``:input`` or ``:weight``."""
    return path.removesuffix(INPUT).removesuffix(WEIGHT)


def check_paths(network: nn.Module, paths: Iterable[str]) -> dict[str, nn.Module]:
    """Return the modules at paths, as in ``named_modules()``; for an ``AdaptedInput`` those of its inner network.

    ``"fc:input"`` stands for the first input of ``"fc"``, ``"fc:weight"`` for its weight.

    Raises:
        InputError: a path that does not exist; names the nearest paths.
    """
    inner = inner_network(network)
    modules = dict(inner.named_modules())
    for path in paths:
        if module_path(path) not in modules:
            raise unknown(f"feature of {type(inner).__name__}", path, (m for m in modules if m))
    return {path: modules[module_path(path)] for path in paths}


def has_batch(path: str) -> bool:
    """Return true if the feature of a path has a row for each sample; a weight has not."""
    return not path.endswith(WEIGHT)


class FeatureTap:
    """Runs a network and returns the outputs of some of its modules.

    Args:
        network: any classifier; its named modules get hooks.
        paths: module paths; see ``check_paths``.

    Raises:
        InputError: a path that does not exist.
    """

    def __init__(self, network: nn.Module, paths: Iterable[str] = ()) -> None:
        self.network = network
        self._features: dict[str, Tensor] | None = None  # not None only during a call of this tap
        modules = check_paths(network, paths)
        self._hooks = [
            module.register_forward_pre_hook(self._keep_input(path))
            if path.endswith(INPUT)
            else module.register_forward_hook(self._keep(path))
            for path, module in modules.items()
        ]

    def close(self) -> None:
        """Remove the hooks from the network."""
        for hook in self._hooks:
            hook.remove()

    def _keep(self, path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if self._features is not None:
                value: Any = module.weight if path.endswith(WEIGHT) else feature_of(output)
                self._features[path] = value

        return hook

    def _keep_input(self, path: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            if self._features is not None:
                self._features[path] = inputs[0]

        return hook

    def parts(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return logits and features as a tuple, for the compiler."""
        self._features = {}
        try:
            return logits_of(self.network(images)), self._features
        finally:
            self._features = None

    def __call__(self, images: Tensor) -> ModelOutput:
        """Return logits ``(B, K)`` and the features of images ``(B, C, H, W)``."""
        return ModelOutput(*self.parts(images))
