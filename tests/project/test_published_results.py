"""The paper's results in the documentation are those that reports compare with."""

import re
from pathlib import Path

from foal_hf.experiments.corpus_facts import PUBLISHED_CLIPS, PUBLISHED_ON_IEMOCAP


PAGE = Path(__file__).parents[2] / "docs" / "results-of-the-paper.md"


def test_the_page_has_the_published_values_in_their_order() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (\d+\.\d\d) % \| (\d+\.\d\d) % \|$", text, re.MULTILINE)
    values = [(f"{100 * ua:.2f}", f"{100 * wa:.2f}") for ua, wa in PUBLISHED_ON_IEMOCAP.values()]
    assert [(ua, wa) for _, ua, wa in rows] == values
    for name, (words, *_) in zip(PUBLISHED_ON_IEMOCAP, rows, strict=True):
        assert words.startswith(name.split(" + ")[0])
    assert f"{PUBLISHED_CLIPS} clips" in text
