"""Text for terminals: nothing controls them, and names of all languages stay readable."""

from foal_hf.printable_text import printable


def test_control_characters_and_bytes_that_are_not_utf_8_become_escapes() -> None:
    assert printable("a\x1b[31m\n\t\x7f\x9b") == r"a\x1b[31m\x0a\x09\x7f\x9b"
    assert printable("caf\udce9 \ud800 \u2028 \u202e") == r"caf\xe9 \ud800 \u2028 \u202e"


def test_names_of_other_languages_stay_as_they_are() -> None:
    for name in ("愤怒 中性.mp4", "\u3000全角", "👨\u200d👩.mov", "غاضب", "a\u00a0b"):
        assert printable(name) == name
