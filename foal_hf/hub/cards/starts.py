"""The checkpoint that a training started from, in the words of cards and reports."""

from ...results import Start
from .markdown import enumerated


def start_words(start: Start) -> str:
    """The checkpoint, with what tells it from others."""
    name = f"`{start.name}`" if start.name else "a checkpoint that is not on the Hub"
    revision = f"revision {start.revision[:12]}, " if start.revision else ""
    corpus = f", trained on {start.corpus.name}" if start.corpus else ""
    return f"{name} ({revision}weights {start.fingerprint[:12]}{corpus})"


def label_words(start: Start) -> str:
    """Which labels kept their weights."""
    kept = enumerated(start.kept_labels) if start.kept_labels else "none"
    others = {"new": start.new_labels, "not used": start.unused_labels}
    return "; ".join(
        [f"labels that kept their weights: {kept}", *(f"{n}: {enumerated(o)}" for n, o in others.items() if o)]
    )


__all__ = ["label_words", "start_words"]
