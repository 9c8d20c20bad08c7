"""What all figures share: colours, checks of what comes in, and saving.

`draw_*` gives a matplotlib figure, for notebooks and loggers; `plot_*` writes one to a file. Figures are made through
matplotlib's object interface: no window opens, and the state of pyplot is neither read nor changed.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from matplotlib.figure import Figure

Style = tuple[str, str, str]  # colour, line style, hatch

# Okabe and Ito's colours, told apart with every kind of colour vision; black and yellow last, as the loudest and the
# faintest on white paper.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")
_LINES_AND_HATCHES = (("-", ""), ("--", "///"), (":", "..."))  # a pair for each round through the colours
OTHER_COLOUR = "#BBBBBB"  # of a true label that the model does not know, and of no label

_DOTS_PER_INCH = 200
MARGIN_INCHES = 0.07
# What a file says of its making. Without the dates and versions equal figures are equal files (an SVG's inner ids are
# still random).
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
}


def styles_of(labels: Sequence[str]) -> dict[str, Style]:
    """Colour, line style and hatch of each label; past the eighth, colours come again with another line and hatch."""
    rounds = [divmod(index, len(OKABE_ITO)) for index in range(len(labels))]
    return {
        label: (OKABE_ITO[colour], *_LINES_AND_HATCHES[lap % len(_LINES_AND_HATCHES)])
        for label, (lap, colour) in zip(labels, rounds, strict=True)
    }


def text_colour(background: Any) -> str:
    """Black or white, whichever stands out more from a colour (WCAG 2: at least 4.5 to 1 on every colour)."""
    from matplotlib.colors import to_rgb

    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(background))
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "black" if luminance > 0.179 else "white"


def checked_path(path: str | PathLike[str]) -> Path:
    """The path of a figure; raises `ValueError` for an ending that matplotlib is not asked to write."""
    path = Path(path)
    if path.suffix.lower() not in _METADATA:
        raise ValueError(f"A picture ends in {', '.join(_METADATA)}; got {str(path)!r}.")
    return path


def checked_labels(labels: Sequence[str]) -> list[str]:
    """The labels as a list; raises `ValueError` where there are none, or one twice."""
    labels = list(labels)
    if not labels or len(set(labels)) != len(labels):
        raise ValueError(f"`labels` has to hold at least one name, each once; got {labels}.")
    return labels


def save(figure: "Figure", path: Path) -> Path:
    """Write a figure; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    figure.savefig(path, format=suffix[1:], dpi=_DOTS_PER_INCH, metadata=_METADATA[suffix])
    return path


def percent(share: float) -> str:
    """A share in [0, 1] as a percentage."""
    return f"{100 * share:.1f} %"
