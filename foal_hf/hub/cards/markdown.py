"""Numbers, lists and tables in the Markdown of a card."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, one line a row."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[str(cell).replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def bullets(lines: Iterable[str]) -> str:
    """A list, one line an item."""
    return "\n".join(f"- {line}" for line in lines)


def enumerated(words: Iterable[str]) -> str:
    """`"one, two and three"`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def counted(number: int, what: str) -> str:
    """`"1 clip"`, `"1,200 clips"`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def percent(share: float) -> str:
    """`"12.3%"`."""
    return f"{share:.1%}"


def sentence(words: str) -> str:
    """The words, with a full stop where they end without one."""
    return words if words.endswith((".", "!", "?")) else f"{words}."


def named_versions(versions: dict[str, str]) -> str:
    """`"torch 2.13.0, transformers 5.23.0"`."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


__all__ = ["bullets", "counted", "enumerated", "named_versions", "percent", "sentence", "table"]
