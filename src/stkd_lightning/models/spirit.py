"""Spirit Distillation's student: a compact front, an adapter, and a trained teacher's rest.

Wu et al. 2021 (arXiv:2104.14696; Enhanced: arXiv:2103.13733). Our reading: where the networks are cut, the adapter, and
the smaller rate of the rest.
"""

import copy
from contextlib import suppress
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stkd_lightning.models import cut as cuts
from stkd_lightning.models.feature_hooks import INPUT, inner_network, logits_of
from stkd_lightning.models.input_adapter import LARGEST, declare, declared
from stkd_lightning.models.probe import Layers, NetworkInspector
from stkd_lightning.utilities import validation
from stkd_lightning.utilities.errors import InputError, unknown

Head = Literal["teacher", "compact"]
HEADS = get_args(Head)


class MapAdapter(nn.Module):
    """A student's map in the shape of a teacher's: a bilinear resize where sizes differ, and a learned 1x1 convolution.

    Args:
        width_in: the student's channels.
        width: the teacher's channels.
        stride: pixels of the image for each position of the teacher's map; ``None``: the maps have one size.
        rounds_up: whether the teacher's map has a position for the pixels that a stride leaves over.
    """

    def __init__(self, width_in: int, width: int, stride: int | None = None, *, rounds_up: bool = True) -> None:
        super().__init__()
        self.stride, self.rounds_up = stride, rounds_up
        self.projection = nn.Conv2d(width_in, width, 1)

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """Return the projected map ``(B, width, h, w)`` of a map and the images, whose size alone is read."""
        if self.stride is not None:
            extra = self.stride - 1 if self.rounds_up else 0
            size = [(side + extra) // self.stride for side in images.shape[2:]]
            features = F.interpolate(features, size, mode="bilinear", align_corners=False)
        return self.projection(features)


class EqualMaps(nn.Module):
    """The adapter between maps of one shape: it returns the student's map."""

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """Return the features."""
        return features


class AdaptedFront(nn.Module):
    """A student's front with an adapter: images ``(B, C, H, W)`` to a representation ``(B, c, h, w)``.

    Args:
        front: images to a map.
        adapter: a map and the images to the representation.
    """

    def __init__(self, front: nn.Module, adapter: nn.Module) -> None:
        super().__init__()
        self.front, self.adapter = front, adapter

    def forward(self, images: Tensor) -> Tensor:
        """Return the representation of images."""
        return self.adapter(self.front(images), images)


class SpiritStudent(AdaptedFront):
    """A student's front, an adapter and a rest: images ``(B, C, H, W)`` to logits.

    Args:
        front: images to a map.
        adapter: a map and the images to the representation.
        rest: the representation and the images, whose size alone is read, to logits.
        head: ``"teacher"``: the rest is a teacher's; ``"compact"``: it is the student's own.
        rest_rate: factor of the learning rate of a teacher's rest.
    """

    def __init__(
        self, front: nn.Module, adapter: nn.Module, rest: nn.Module, *, head: Head = "teacher", rest_rate: float = 0.1
    ) -> None:
        super().__init__(front, adapter)
        self.rest, self.head = rest, head
        rate = validation.positive("distilled.rest_rate", rest_rate)
        self.rate_factors = {"rest": rate} if head == "teacher" else {}  # by the name of a child module

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images."""
        return logits_of(self.rest(super().forward(images), images))

    def start_from(self, represents: nn.Module, teacher: nn.Module) -> None:
        """Copy the weights of a trained ``AdaptedFront``, and those of a trained teacher where the rest is a teacher's.

        Args:
            represents: of the same student and teacher.
            teacher: the network whose copy without training the rest is.
        """
        parts: list[tuple[nn.Module, nn.Module]] = [(self, inner_network(represents))]
        parts += [(self.rest, inner_network(teacher))] if self.head == "teacher" else []
        for part, trained in parts:
            weights, own = trained.state_dict(), part.state_dict()
            part.load_state_dict({name: weights.get(name, value) for name, value in own.items()})


def spirit_student(
    student: nn.Module,
    teacher: nn.Module,
    *,
    student_cut: str | None = None,
    teacher_cut: str | None = None,
    head: Head = "teacher",
    rest_rate: float = 0.1,
    image_size: int = 64,
) -> SpiritStudent:
    """Return a student that ends in a copy of a teacher's rest, or in its own.

    Args:
        student: any network that can be cut; see ``models.cut``.
        teacher: likewise; it does not change.
        student_cut: module path; ``None``: the last stage of the network, see ``NetworkInspector``.
        teacher_cut: likewise.
        head: ``"teacher"`` or ``"compact"``: the student's own rest, without an adapter before it.
        rest_rate: factor of the learning rate of a teacher's rest, above 0.
        image_size: side in pixels of the images that are run to find the maps' shapes.

    Raises:
        InputError: an unknown path, a network that cannot be cut there, or maps of shapes that do not fit.
    """
    if head not in HEADS:
        raise unknown("distilled.head", str(head), HEADS)
    represents = spirit_front(student, teacher, student_cut=student_cut, teacher_cut=teacher_cut, image_size=image_size)
    owner, given = (teacher, teacher_cut) if head == "teacher" else (student, student_cut)
    rest = cuts.rest(owner, cut_of(owner, given, image_size))
    if head == "teacher":
        adapter, rest = represents.adapter, copy.deepcopy(rest).requires_grad_(True).train()
    else:
        adapter = EqualMaps()
    network = SpiritStudent(represents.front, adapter, rest, head=head, rest_rate=rest_rate)
    _declare_layers(network, student, owner, image_size)
    declare(network, declared(student))
    return network


def spirit_front(
    student: nn.Module,
    teacher: nn.Module,
    *,
    student_cut: str | None = None,
    teacher_cut: str | None = None,
    image_size: int = 64,
) -> AdaptedFront:
    """Return the part of ``spirit_student`` that learns the teacher's representation.

    Raises:
        InputError: see ``spirit_student``.
    """
    validation.whole("distilled.image_size", image_size, minimum=8, maximum=LARGEST)
    own, other = (
        cuts.front(network, cut_of(network, path, image_size))
        for network, path in ((student, student_cut), (teacher, teacher_cut))
    )
    front = AdaptedFront(own, _adapter(own, other, (type(student).__name__, type(teacher).__name__), image_size))
    declare(front, declared(student))
    return front


def cut_of(network: nn.Module, path: str | None, image_size: int = 64) -> str:
    """Return the path of a cut: the given one, or the last stage of a network.

    Raises:
        InputError: the output of the module is no map ``(B, C, H, W)``, or no stages are visible.
    """
    inspector = NetworkInspector(network, torch.zeros(1, 3, image_size, image_size))
    chosen = path or inspector.layers.pooled
    if not chosen:
        raise InputError(f"{inspector.name}: has no visible stages to cut after; set student_cut and teacher_cut")
    cuts.front(network, chosen)  # refuses an unknown path in its own words
    (shape,) = inspector.shapes([chosen])
    if len(shape) != 4 or prod(shape[2:]) == 1:
        raise InputError(
            f"{inspector.name}: cannot be cut at {chosen!r}, whose output {tuple(shape[1:])} of an image is no map "
            "(C, H, W)"
        )
    return chosen


def _adapter(student: nn.Module, teacher: nn.Module, names: tuple[str, str], side: int) -> nn.Module:
    """Return the adapter from one front's map to another's."""
    (width_in, *size_in), (width, *size) = (_map_shape(front, side) for front in (student, teacher))
    if size_in == size:
        return EqualMaps() if width_in == width else MapAdapter(width_in, width)
    stride = side // size[0]
    try:
        odd = _map_shape(teacher, side + 1)[1]
    except InputError:  # the network takes multiples of its stride only
        odd = size[0] + 1
    if size[0] != size[1] or size[0] * stride != side or odd not in (size[0], size[0] + 1):
        raise InputError(
            f"{names[1]}: its map of {size[0]}x{size[1]} positions for an image of {side}x{side} pixels cannot be made "
            f"from {names[0]}'s of {size_in[0]}x{size_in[1]}: the image is no multiple of it; set student_cut and "
            "teacher_cut to stages of one resolution"
        )
    return MapAdapter(width_in, width, stride, rounds_up=odd > size[0])


def _map_shape(front: nn.Module, side: int) -> tuple[int, int, int]:
    inspector = NetworkInspector(front, torch.zeros(1, 3, side, side))
    _, channels, height, width = inspector.run(front).shape
    return channels, height, width


def _declare_layers(network: SpiritStudent, student: nn.Module, owner: nn.Module, image_size: int) -> None:
    """Declare the layers of a student that are those of its parts; of a part without visible layers nothing is."""
    image = torch.zeros(1, 3, image_size, image_size)
    with suppress(InputError):
        front, rest = (NetworkInspector(part, image).layers for part in (student, owner))
        names = dict(network.named_modules())
        stages = tuple(f"front.{path}" for path in front.stages if f"front.{path}" in names)
        embedding, head = f"rest.{rest.embedding}", f"rest.{rest.head}"
        if all(path.removesuffix(INPUT) in names for path in (embedding, head)):
            vars(network)["feature_layers"] = Layers(stages, "adapter", embedding, head)
