"""Numbers, lists and tables in Markdown."""

from collections.abc import Iterable, Mapping, Sequence

from ...results import Score


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, one line per row."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(content: object) -> str:
    """The content of a table's cell."""
    return str(content).replace("|", r"\|")


def enumerated(words: Iterable[str]) -> str:
    """`"one, two and three"`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def counted(number: int, what: str) -> str:
    """`"1 clip"`, `"1,200 clips"`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def percent(share: float, digits: int = 1) -> str:
    """`"12.3%"`."""
    return f"{share:.{digits}%}"


def sentence(words: str | None) -> str:
    """The words with a full stop, unless they end with a mark."""
    return words or "" if not words or words.endswith((".", "!", "?")) else f"{words}."


def named_versions(versions: Mapping[str, str]) -> str:
    """`"torch 2.13.0, transformers 5.23.0"`."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def condition_words(condition: str) -> str:
    """`"audio and video"` for `"both"`."""
    return "audio and video" if condition == "both" else condition


def score_words(score: Score) -> str:
    """`"79.5% ± 0.4 [77.1, 81.6]"`, as far as it is known."""
    words = percent(score.value)
    if score.standard_deviation is not None:
        words += f" ± {100 * score.standard_deviation:.1f}"
    if score.interval is not None:
        words += f" [{100 * score.interval[0]:.1f}, {100 * score.interval[1]:.1f}]"
    return words


__all__ = [
    "cell",
    "condition_words",
    "counted",
    "enumerated",
    "named_versions",
    "percent",
    "score_words",
    "sentence",
    "table",
]
