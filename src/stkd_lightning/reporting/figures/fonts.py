"""Fonts for names in any script: installed fonts that have the characters, and escapes for those that none has."""

from collections.abc import Iterator

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter

MOST = 6  # fonts in addition to the usual one


def fonts_for(text: str) -> list[str]:
    """Return installed font families that together have the characters that the usual font lacks, where there are any.

    Args:
        text: all characters that are drawn.
    """
    missing = _missing(text, FontProperties(family=["sans-serif"]))
    families: list[str] = []
    for path, name in sorted({(entry.fname, entry.name) for entry in fontManager.ttflist}) if missing else []:
        rest = {c for c in missing if not _has(path, c)}
        if len(rest) < len(missing) and len(families) < MOST:
            families.append(name)
            missing = rest
        if not missing:
            break
    return families


def escape_missing(figure: Figure) -> Figure:
    """Replace the characters of a figure that none of its fonts has by escapes, for PNG; a browser has more fonts.

    Returns:
        The same figure.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(_escaped(text.get_text(), text.get_fontproperties()))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(formatter := axis.get_major_formatter(), FixedFormatter):
                font = axis.get_majorticklabels()[0].get_fontproperties() if formatter.seq else FontProperties()
                formatter.seq = [_escaped(str(label), font) for label in formatter.seq]
    return figure


def _escaped(text: str, font: FontProperties) -> str:
    missing = _missing(text, font)
    return "".join(c.encode("unicode_escape").decode() if c in missing else c for c in text)


def _missing(text: str, font: FontProperties) -> set[str]:
    """Return the characters that no family of a font has."""
    characters = {c for c in text if not c.isascii()}
    for path in _files(font) if characters else ():
        characters = {c for c in characters if not _has(path, c)}
    return characters


def _files(font: FontProperties) -> Iterator[str]:
    for family in font.get_family():
        single = font.copy()
        single.set_family(family)
        yield str(fontManager.findfont(single))


def _has(path: str, character: str) -> bool:
    try:
        return bool(get_font(path).get_char_index(ord(character)))
    except (OSError, RuntimeError):  # a damaged or removed font
        return False
