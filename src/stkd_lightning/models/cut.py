"""Cut a network at a module: the part from the images to the module's output, and the part from there to the logits."""

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
    opened: tuple[str, ...] = ()
    while True:
        nodes, images, cut = _traced(network, path, opened)
        after, needed = _dependents(nodes, cut), _needed(nodes, nodes[-1], cut)
        if nodes[-1] not in after:
            raise _refusal(network, path, "the logits do not depend on its output")
        around = _around(nodes, cut, after, needed)
        if around is None:
            return _part(network, needed, [cut, images], nodes[-1])
        reader, earlier = around
        # A module may get values that it does not use, as a decoder the maps of all stages.
        if reader.op != "call_module" or not _has_parts(network, str(reader.target)) or reader.target in opened:
            cause = f"{_name(reader)} also reads {_name(earlier)}, a connection around the cut"
            raise _refusal(network, path, cause)
        opened += (str(reader.target),)


class _Tracer(fx.Tracer):
    """Traces the modules that contain the cut, and opened ones; every other module is one step, whatever its code."""

    def __init__(self, path: str, opened: tuple[str, ...]) -> None:
        super().__init__()
        self._inner = path, *(f"{name}." for name in opened)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(path.startswith(f"{module_qualified_name}.") for path in self._inner)


def _traced(network: nn.Module, path: str, opened: tuple[str, ...] = ()) -> tuple[list[fx.Node], fx.Node, fx.Node]:
    """Return the steps of a network in their order, the images, and the step of the module at the cut.

    Args:
        network: with the module.
        path: of the module.
        opened: paths of modules that are traced too.

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
            graphs.append(_Tracer(path, opened).trace(network))
    except Exception as error:  # the network's code may raise any type
        raise _refusal(network, path, reason(error)) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    if len({_text(graph) for graph in graphs}) > 1:
        raise _refusal(network, path, "its forward computes something else in training than in evaluation")
    nodes = list(graphs[0].nodes)
    for node in nodes:
        if not node.users and _is_in_place(node, network):
            raise _refusal(network, path, f"{_name(node)} changes a value in place, which no trace shows")
    cuts = [node for node in nodes if node.op == "call_module" and node.target == path]
    if len(cuts) != 1:
        raise _refusal(network, path, f"the module runs {len(cuts)} times")
    return nodes, nodes[0], cuts[0]


def _text(graph: fx.Graph) -> str:
    return "\n".join(f"{node.op} {node.target} {node.args} {node.kwargs}" for node in graph.nodes)


def _is_in_place(node: fx.Node, network: nn.Module) -> bool:
    if node.op == "call_module":
        return bool(getattr(network.get_submodule(str(node.target)), "inplace", False))
    name = node.target if isinstance(node.target, str) else node.target.__name__
    return name.endswith("_") or bool(node.kwargs.get("inplace"))


def _is_size(node: fx.Node) -> bool:
    """Return whether a step reads no more than the size of its first input."""
    name = node.args[1] if node.target is getattr else node.target
    return node.op in ("call_function", "call_method") and name in SIZES


def _has_parts(network: nn.Module, path: str) -> bool:
    return any(True for _ in network.get_submodule(path).children())


def _around(
    nodes: list[fx.Node], cut: fx.Node, after: set[fx.Node], needed: list[fx.Node]
) -> tuple[fx.Node, fx.Node] | None:
    """Return a step after the cut, and an earlier value that it reads beside the cut's; ``None``: there is none."""
    values = _readers(nodes, nodes[0])
    pairs = ((node, n) for node in needed if node in after and node is not cut for n in node.all_input_nodes)
    return next(((node, earlier) for node, earlier in pairs if earlier in values and earlier not in after), None)


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
