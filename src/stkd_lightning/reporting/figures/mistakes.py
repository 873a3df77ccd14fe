"""Images that a student has wrong: the surest mistakes, and those that only the teacher has right."""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from stkd_lightning.reporting.class_predictions import ImageGallery
from stkd_lightning.reporting.figures.class_accuracy import first_classified, split_of
from stkd_lightning.reporting.figures.picture import Picture
from stkd_lightning.reporting.figures.style import COLOURS, WIDTH, new_figure
from stkd_lightning.reporting.grouping import Setting
from stkd_lightning.utilities.text import printable, shortened

COLUMNS = 4  # pictures in a row
GAP, LINE, LEGEND = 0.08, 0.125, 0.2  # inches between pictures, of a line of text, and of the legend
WORDS, FILE = 15, 30  # characters of a class and of a file's name below a picture
WRONG, RIGHT = COLOURS[1], COLOURS[2]


def mistakes(setting: Setting) -> Picture | None:
    """Draw the images to whose wrong class the student gives the highest probability.

    Args:
        setting: setting of the student; its first seed with diagnostics is drawn.

    Returns:
        The figure; ``None`` without diagnostics that hold such images.
    """
    if (measured := first_classified(setting)) is None or not len(gallery := measured[1].wrong):
        return None
    caption = (
        f"The {split_of([setting])} images to whose wrong class the student ({setting.label}, seed {measured[0]}) "
        "gives the highest probability; such images may be mislabelled. Below each: the true class, then the "
        "student's with its probability."
    )
    return _picture("mistakes", "Most wrong images", caption, gallery, setting, taught=False)


def disagreements(setting: Setting) -> Picture | None:
    """Draw images that only the teacher has right; arguments and result as in ``mistakes``."""
    if (measured := first_classified(setting)) is None or not len(gallery := measured[1].lost):
        return None
    caption = (
        f"The {split_of([setting])} images that the teacher has right and the student ({setting.label}, seed "
        f"{measured[0]}) wrong, those of the largest KL(teacher || student) first. Below each: the true class with the "
        "teacher's probability, then the student's class with its probability."
    )
    return _picture("disagreements", "Right for the teacher only", caption, gallery, setting, taught=True)


def _picture(name: str, title: str, caption: str, gallery: ImageGallery, setting: Setting, *, taught: bool) -> Picture:
    names = setting.runs[0].summary.data.class_names
    return Picture(name, title, caption + file_names(gallery), draw_images(gallery, names, taught=taught))


def file_names(gallery: ImageGallery) -> str:
    """Return a sentence with the numbers and files of the pictures; empty where there are no files."""
    named = [f"{i} {printable(str(file))}" for i, file in enumerate(gallery.files, 1) if file]
    return f" Files: {'; '.join(named)}." if named else ""


def draw_images(gallery: ImageGallery, class_names: Sequence[str], *, taught: bool = False) -> Figure:
    """Draw pictures with their true class, the student's class and their file.

    Args:
        gallery: at least one image.
        class_names: names of the classes.
        taught: show the teacher's probability of the true class.
    """
    heights, has_files = gallery.pictures.shape[2] / gallery.pictures.shape[3], any(gallery.files)
    rows, cell = -(-len(gallery) // COLUMNS), WIDTH / COLUMNS
    picture = (cell - GAP) * min(2.0, heights)
    row_height = picture + LINE * (2.6 + has_files)
    height = rows * row_height + LEGEND
    figure = new_figure(height)
    figure.set_layout_engine("none")  # which would make pictures smaller for the text below them
    for i in range(len(gallery)):
        left, top = cell * (i % COLUMNS) + GAP / 2, height - row_height * (i // COLUMNS)
        box = left / WIDTH, (top - picture) / height, (cell - GAP) / WIDTH, picture / height
        axis = figure.add_axes(box, anchor="S")
        axis.imshow(gallery.pictures[i].transpose(1, 2, 0), interpolation="nearest")
        axis.set_axis_off()
        for line, (text, colour, size) in enumerate(_lines(gallery, i, class_names, taught=taught)):
            below = (left + (cell - GAP) / 2) / WIDTH, (top - picture - 0.03 - LINE * line) / height
            figure.text(*below, text, ha="center", va="top", fontsize=size, color=colour)
    words = (f"true class{', probability of the teacher' if taught else ''}", "class and probability of the student")
    entries = [Patch(facecolor=colour, label=label) for colour, label in zip((RIGHT, WRONG), words, strict=True)]
    figure.legend(handles=entries, loc="lower center", ncols=2, fontsize=7, borderpad=0.2)
    return figure


def _lines(
    gallery: ImageGallery, i: int, class_names: Sequence[str], *, taught: bool
) -> Iterator[tuple[str, str, float]]:
    """Yield the lines below a picture with colour and size."""
    (label, first, _), (share, teacher) = gallery.classes[i], gallery.shares[i]
    true, wrong = (shortened(printable(class_names[c]), WORDS) for c in (label, first))
    yield (f"{true} {100 * teacher:.0f} %" if taught else true), RIGHT, 7
    yield f"{wrong} {100 * share:.0f} %", WRONG, 7
    if gallery.files[i]:
        yield shortened(f"{i + 1}  {printable(str(gallery.files[i]))}", FILE), "gray", 5
