"""The first classes of images as arrays, with the images that say most about a student's mistakes."""

from dataclasses import dataclass, field

import numpy as np

from stkd_lightning.reporting.diagnostics_file import SIDE, Array, check_range

GALLERY = 12  # images in a gallery
NAME = 4096  # characters of a file's name


def _numbers() -> Array:
    return np.zeros(0, np.int64)


def _names() -> Array:
    return np.zeros(0, "U1")


@dataclass(frozen=True)
class ImageGallery:
    """Images that a student has wrong, the most telling first.

    Attributes:
        pictures: ``(G, 3, H, W)`` uint8.
        classes: ``(G, 3)``; true class, first class of the student, and of the teacher, -1 without one.
        shares: ``(G, 2)``; probability of the latter two, 0 without a teacher.
        files: ``(G,)``; names of the files, or ``""``.
    """

    pictures: Array
    classes: Array
    shares: Array
    files: Array

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True, kw_only=True)
class ClassPredictions:
    """The first classes of N images from a student and its teacher; without a teacher, its arrays are empty.

    All arrays are empty in files of older versions. Of both galleries see ``ImageGallery``.

    Attributes:
        labels: ``(N,)`` true classes.
        student_first: ``(N,)`` first class of the student.
        teacher_first: the same of the teacher.
        wrong_pictures: images that the student has wrong, those of the most probable wrong class first.
        wrong_classes: of them; likewise ``wrong_shares`` and ``wrong_files``.
        lost_pictures: images that only the teacher has right, those of the largest KL(teacher || student) first.
        lost_classes: of them; likewise ``lost_shares`` and ``lost_files``.
    """

    labels: Array = field(default_factory=_numbers)
    student_first: Array = field(default_factory=_numbers)
    teacher_first: Array = field(default_factory=_numbers)
    wrong_pictures: Array = field(default_factory=_numbers)
    wrong_classes: Array = field(default_factory=_numbers)
    wrong_shares: Array = field(default_factory=_numbers)
    wrong_files: Array = field(default_factory=_names)
    lost_pictures: Array = field(default_factory=_numbers)
    lost_classes: Array = field(default_factory=_numbers)
    lost_shares: Array = field(default_factory=_numbers)
    lost_files: Array = field(default_factory=_names)

    @property
    def wrong(self) -> ImageGallery:
        """The gallery of images that the student has wrong."""
        return ImageGallery(self.wrong_pictures, self.wrong_classes, self.wrong_shares, self.wrong_files)

    @property
    def lost(self) -> ImageGallery:
        """The gallery of images that only the teacher has right."""
        return ImageGallery(self.lost_pictures, self.lost_classes, self.lost_shares, self.lost_files)

    def check_predictions(self, images: int, num_classes: int) -> None:
        """Refuse classes that do not exist, and galleries that cannot be drawn.

        Raises:
            ValueError: names the array.
        """
        for name in ("labels", "student_first", "teacher_first"):
            classes = getattr(self, name)
            if classes.shape not in ((images,), (0,)) or (name == "student_first" and len(classes) != len(self.labels)):
                raise ValueError(f"{name} has shape {classes.shape}, not ({images},)")
            _check_classes(name, classes, 0, num_classes)
        for name, gallery in (("wrong", self.wrong), ("lost", self.lost)):
            _check_gallery(name, gallery, num_classes)


def _check_classes(name: str, classes: Array, low: int, num_classes: int) -> None:
    if classes.size and (classes.dtype.kind != "i" or classes.min() < low or classes.max() >= num_classes):
        raise ValueError(f"{name} must hold whole numbers in [{low}, {num_classes})")


def _check_gallery(name: str, gallery: ImageGallery, num_classes: int) -> None:
    shown, pictures = len(gallery), gallery.pictures
    shapes = {"classes": (shown, 3) if shown else (0,), "shares": (shown, 2) if shown else (0,), "files": (shown,)}
    for part, shape in shapes.items():
        if getattr(gallery, part).shape != shape:
            raise ValueError(f"{name}_{part} has shape {getattr(gallery, part).shape}, not {shape}")
    if gallery.files.dtype.kind != "U" or gallery.files.dtype.itemsize > 4 * NAME:
        raise ValueError(f"{name}_files must hold names of at most {NAME} characters")
    _check_classes(f"{name}_classes", gallery.classes, -1, num_classes)
    check_range(f"{name}_shares", gallery.shares, 0, 1)
    if not shown:
        return
    if shown > GALLERY or pictures.ndim != 4 or pictures.shape[1] != 3 or not 0 < max(pictures.shape[2:]) <= SIDE:
        raise ValueError(f"{name}_pictures has shape {pictures.shape}, not at most ({GALLERY}, 3, {SIDE}, {SIDE})")
    if pictures.dtype != np.uint8 or min(pictures.shape[2:]) < 1 or gallery.classes[:, :2].min() < 0:
        raise ValueError(f"{name}_pictures needs uint8, and {name}_classes classes of the student")
