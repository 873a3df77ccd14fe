"""A figure with the words that it needs beside it."""

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure for a report or a dashboard.

    Attributes:
        name: a word for files and dashboards.
        title: a few words.
        caption: what is seen, how it was measured, in plain sentences.
        figure: the figure.
    """

    name: str
    title: str
    caption: str
    figure: Figure
