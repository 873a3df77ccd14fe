"""Cut a network at a module: the part from the images to the module's output, and the part from there to the logits."""

import operator
from collections.abc import Iterable

from torch import fx, nn

from stkd_lightning.models.feature_hooks import inner_network
from stkd_lightning.models.input_adapter import AdaptedInput
from stkd_lightning.utilities.errors import InputError, reason, unknown

SIZES = ("shape", "size", "ndim", "dim")  # what a rest may read of the images


def front(network: nn.Module, path: str) -> nn.Module:
    """Return the part of a network from images ``(B, C, H, W)`` to the output of a module.

    The part shares the network's modules, and its parameters have the same names. For an ``AdaptedInput`` the path is
    one of its inner network, and the part begins with the same adaptation.

    Args:
        network: any network that ``torch.fx`` can trace down to the module.
        path: of the module, as in ``named_modules()``.

    Raises:
        InputError: an unknown path, or a network that cannot be cut there.

    Example:
        >>> import torch
        >>> from stkd_lightning.models import create_model
        >>> from stkd_lightning.models.cut import front, rest
        >>> network = create_model("resnet8", num_classes=10).eval()
        >>> images = torch.zeros(1, 3, 32, 32)
        >>> features = front(network, "layer3")(images)
        >>> features.shape, torch.equal(rest(network, "layer3")(features, images), network(images))
        (torch.Size([1, 64, 8, 8]), True)
    """
    if isinstance(network, AdaptedInput):
        return network.before(front(network.network, path))
    nodes, images, cut = _traced(network, path)
    steps = _needed(nodes, cut)
    for node in steps:
        if node.op == "placeholder" and node is not images:
            raise _refusal(network, path, f"it reads {_name(node)} beside the images")
    return _part(network, steps, [images], cut)


def rest(network: nn.Module, path: str) -> nn.Module:
    """Return the part of a network from the output of a module to the logits; see ``front``.

    The part is called with the module's output and with the images, of which it reads only the size.

    Raises:
        InputError: likewise, or the logits depend on an earlier value beside the module's output.
    """
    network = inner_network(network)
    nodes, images, cut = _traced(network, path)
    output = nodes[-1]
    values, after = _readers(nodes, images), _dependents(nodes, cut)
    needed = _needed(nodes, output, cut)
    for node in (n for n in needed if n in after and n is not cut):
        for earlier in node.all_input_nodes:
            if earlier in values and earlier not in after:
                raise _refusal(network, path, f"{_name(node)} also reads {_name(earlier)}, a connection around the cut")
    if output not in after:
        raise _refusal(network, path, "the logits do not depend on its output")
    return _part(network, needed, [cut, images], output)


class _Tracer(fx.Tracer):
    """Traces the modules that contain the cut; every other module is one step, whatever its code."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self._path.startswith(f"{module_qualified_name}.")


def _traced(network: nn.Module, path: str) -> tuple[list[fx.Node], fx.Node, fx.Node]:
    """Return the steps of a network in their order, the images, and the step of the module at the cut.

    Raises:
        InputError: an unknown path, or a network that cannot be cut there.
    """
    paths = [name for name, _ in network.named_modules() if name]
    if path not in paths:
        raise unknown(f"cut of {type(network).__name__}", path, paths)
    modes = {module: module.training for module in network.modules()}
    graphs = []
    try:
        for training in (True, False):
            network.train(training)
            graphs.append(_Tracer(path).trace(network))
    except Exception as error:  # the network's code may raise any type
        raise _refusal(network, path, reason(error)) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    if len({_text(graph) for graph in graphs}) > 1:
        raise _refusal(network, path, "its forward computes something else in training than in evaluation")
    nodes = list(graphs[0].nodes)
    for node in nodes:
        if not node.users and (node.target is operator.setitem or str(node.target).endswith("_")):
            raise _refusal(network, path, f"{_name(node)} changes a value in place, which no trace shows")
    cuts = [node for node in nodes if node.op == "call_module" and node.target == path]
    if len(cuts) != 1:
        raise _refusal(network, path, f"the module runs {len(cuts)} times")
    return nodes, nodes[0], cuts[0]


def _text(graph: fx.Graph) -> str:
    return "\n".join(f"{node.op} {node.target} {node.args} {node.kwargs}" for node in graph.nodes)


def _is_size(node: fx.Node) -> bool:
    """Return whether a step reads no more than the size of its first input."""
    name = node.args[1] if node.target is getattr else node.target
    return node.op in ("call_function", "call_method") and name in SIZES


def _readers(nodes: Iterable[fx.Node], images: fx.Node) -> set[fx.Node]:
    """Return the steps whose value depends on the inputs of the network by more than the size of the images."""
    found: set[fx.Node] = set()
    for node in nodes:
        reads = any(n in found for n in node.all_input_nodes)
        only_size = node.all_input_nodes == [images] and _is_size(node)
        if node.op == "placeholder" or (reads and not only_size):
            found.add(node)
    return found


def _dependents(nodes: Iterable[fx.Node], cut: fx.Node) -> set[fx.Node]:
    """Return the cut and the steps that depend on it."""
    found = {cut}
    for node in nodes:
        if any(n in found for n in node.all_input_nodes):
            found.add(node)
    return found


def _needed(nodes: list[fx.Node], last: fx.Node, cut: fx.Node | None = None) -> list[fx.Node]:
    """Return the steps that a step needs, in their order, itself included; of the cut its value alone is needed."""
    found = {last}
    for node in reversed(nodes):
        if node in found and node is not cut:
            found.update(node.all_input_nodes)
    return [node for node in nodes if node in found]


def _part(network: nn.Module, steps: list[fx.Node], inputs: list[fx.Node], last: fx.Node) -> nn.Module:
    """Return the steps of a network as a module of its own, which holds only the modules that it runs."""
    graph = fx.Graph()
    copies = {node: graph.placeholder("images" if node.op == "placeholder" else "features") for node in inputs}
    for node in steps:
        if node not in copies and node.op != "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    if last.op != "output":
        graph.output(copies[last])
    graph.lint()
    return fx.GraphModule(network, graph)


def _refusal(network: nn.Module, path: str, cause: str) -> InputError:
    return InputError(f"{type(network).__name__}: cannot be cut at {path!r}: {cause}")


def _name(node: fx.Node) -> str:
    """Return the path of a step's module in quotes; of another step also its function."""
    if node.op in ("call_module", "get_attr"):
        return repr(node.target)
    if node.op in ("placeholder", "output"):
        return {"placeholder": f"the input {node.name!r}", "output": "the network's output"}[node.op]
    earlier = node
    while earlier.op in ("call_function", "call_method") and earlier.all_input_nodes:
        earlier = earlier.all_input_nodes[0]
    return f"{node.name} after {_name(earlier)}" if earlier is not node else node.name
