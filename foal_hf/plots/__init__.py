"""Figures: confusion matrix, timeline, cross-attention, reliability, the contents of a corpus; and timelines as text.

`draw_*` gives a matplotlib figure, for notebooks and loggers; `plot_*` writes one to a file. Figures are made through
matplotlib's object interface: no window opens, and the state of pyplot is neither read nor changed.
"""

from .attention import draw_cross_attention, plot_cross_attention
from .confusion import draw_confusion_matrix, plot_confusion_matrix
from .style import OKABE_ITO
from .timeline import draw_timeline, plot_timeline


__all__ = [
    "OKABE_ITO",
    "draw_confusion_matrix",
    "draw_cross_attention",
    "draw_timeline",
    "plot_confusion_matrix",
    "plot_cross_attention",
    "plot_timeline",
]
