"""What all figures share: colours, fonts, checks of the input, and saving.

`draw_*` gives a matplotlib figure, for notebooks and loggers; `plot_*` writes one to a file. Figures are made through
matplotlib's object interface: no window opens, and the state of pyplot is neither read nor changed.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic_files import replacing


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

Style = tuple[str, str, str]  # colour, line style, hatch

# Okabe and Ito's colours, distinguishable with every kind of colour vision; black and yellow last, as the strongest and
# the weakest on white paper.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
_LINES_AND_HATCHES = (("-", ""), ("--", "///"), (":", "..."))  # a pair for each round of the colours
OTHER_COLOUR = "#BBBBBB"  # of a true label unknown to the model, and of no label

_DOTS_PER_INCH = 200
MARGIN_INCHES = 0.07
# Without dates and versions equal figures are equal files (except the random inner ids of an SVG).
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
}


def styles_of(labels: Sequence[str]) -> dict[str, Style]:
    """Colour, line style and hatch of each label; after the eighth, colours repeat with another line and hatch."""
    rounds = [divmod(index, len(OKABE_ITO)) for index in range(len(labels))]
    return {
        label: (OKABE_ITO[colour], *_LINES_AND_HATCHES[lap % len(_LINES_AND_HATCHES)])
        for label, (lap, colour) in zip(labels, rounds, strict=True)
    }


def text_colour(background: Any) -> str:
    """Black or white, whichever has more contrast to a colour (WCAG 2: at least 4.5 to 1 on every colour)."""
    from matplotlib.colors import to_rgb

    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(background))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "black" if luminance > 0.179 else "white"


def checked_path(path: str | PathLike[str]) -> Path:
    """The path of a figure; raises `ValueError` for another format."""
    path = Path(path)
    if path.suffix.lower() not in _METADATA:
        raise ValueError(f"Expected a file name ending in {', '.join(_METADATA)}; got {str(path)!r}.")
    return path


def checked_labels(labels: Sequence[str]) -> list[str]:
    """The labels as a list; raises `ValueError` if there are none, or one twice."""
    labels = list(labels)
    if not labels or len(set(labels)) != len(labels):
        raise ValueError(f"`labels` must have at least one name, each only once; got {labels}.")
    return labels


def save(figure: "Figure", path: Path) -> Path:
    """Write a figure; missing folders are created."""
    suffix = path.suffix.lower()
    with replacing(path) as partial, without_glyph_warnings():
        figure.savefig(partial, format=suffix[1:], dpi=_DOTS_PER_INCH, metadata=_METADATA[suffix])
    return path


@contextlib.contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Silence matplotlib's warning for each missing character; [`choose_fonts`] reports them together."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        yield


def choose_fonts(figure: "Figure", texts: Iterable[str | None]) -> None:
    """Give the texts of a figure installed fonts that have all their characters, as far as there are any.

    Args:
        figure (`matplotlib.figure.Figure`): With all its texts.
        texts (`Iterable[str]`): What the user named: labels and titles.
    """
    from matplotlib.text import Text

    families, missing = _families_for(frozenset("".join(filter(None, texts)).replace("\n", "")))
    if missing:
        logger.warning(
            f"No installed font has the characters {''.join(missing)!r} of the labels; the figure shows boxes instead. "
            "Install a font that has them, such as Noto Sans CJK, and delete the folder `matplotlib.get_cachedir()`."
        )
    if len(families) > 1:
        for text in figure.findobj(Text):
            text.set_fontfamily(families)
        for axes in figure.axes:
            axes.tick_params(which="both", labelfontfamily=families)


@cache
def _families_for(characters: frozenset[str]) -> tuple[list[str], list[str]]:
    """The default family and, where it lacks characters, further ones; and the characters that no font has."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

    codes = {ord(character) for character in characters if not character.isspace()}
    default = FontProperties()
    families, missing = [default.get_name()], codes - set(get_font(findfont(default)).get_charmap())
    # Last Resort has a box for every character.
    fonts = [font for font in fontManager.ttflist if not font.name.startswith("Last Resort")] if missing else []
    fonts.sort(key=lambda font: (font.style != "normal", font.weight != 400, "sans" not in font.name.lower()))
    covered = [(font.name, missing & set(get_font(font.fname).get_charmap())) for font in fonts]
    while missing and covered:
        name, codes = max(covered, key=lambda entry: len(entry[1] & missing))
        if not codes & missing:
            break
        families.append(name)
        missing -= codes
    return families, sorted(map(chr, missing))


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage."""
    return f"{100 * share:.1f} %"


def write_heading(axes: "Axes", title: str | None, summary: str) -> None:
    """Write the numbers of a figure above its axes, and a title above them."""
    axes.annotate(
        summary,
        (0.5, 1),
        xytext=(0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        fontsize=11,
    )
    if title is not None:
        axes.set_title(title, fontsize=13, fontweight="bold", pad=26)
