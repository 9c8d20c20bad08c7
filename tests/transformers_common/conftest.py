"""Lets transformers' own tests run in ours: their markers are known, and their warnings are theirs."""

import re
from typing import Any

import pytest
from transformers_tests import FOLDER


def pytest_configure(config: pytest.Config) -> None:
    files = [*FOLDER.glob("*.py")]
    names = {name for file in files for name in re.findall(r"\bmark\.(\w+)", file.read_text())} - {"parametrize"}
    for name in sorted(names | {f"is_{kind}_test" for kind in ("training", "pipeline")}):
        config.addinivalue_line("markers", f"{name}: of transformers' own tests")


def pytest_collection_modifyitems(items: list[Any]) -> None:
    for item in items:
        if "transformers_common" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("default"))
