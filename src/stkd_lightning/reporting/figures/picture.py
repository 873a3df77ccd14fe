"""Figure with title and caption."""

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure for a report or a dashboard.

    Attributes:
        name: short name for files and dashboards.
        title: title for readers.
        caption: sentences that explain the contents and the measurement.
        figure: the Matplotlib figure.
    """

    name: str
    title: str
    caption: str
    figure: Figure
