"""Text that is safe to print: file names and labels may hold anything."""

import unicodedata


# Unicode categories of control characters, surrogates and separators of lines; classes that change the direction.
_CONTROLS = ("Cc", "Cs", "Zl", "Zp", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def printable(text: str) -> str:
    r"""Text without characters that control a terminal or cannot be encoded: they become escapes such as `\x1b`.

    Bytes of a file name that are not UTF-8 become escapes too, such as `\xe9`.
    """
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    if unicodedata.category(character) not in _CONTROLS and unicodedata.bidirectional(character) not in _CONTROLS:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
