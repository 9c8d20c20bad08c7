"""Tests that need what a machine may lack: skipped, or failed where FOAL_REQUIRE says so."""

import re
from pathlib import Path

import pytest
import requirements
from requirements import REQUIREMENTS, need


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def ray_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "REQUIREMENTS", {**REQUIREMENTS, "ray": lambda: "no Ray", "make": lambda: None})


@pytest.mark.parametrize("required", ["", "make", "make,peft"])
def test_what_is_missing_and_not_required_skips_the_test(monkeypatch: pytest.MonkeyPatch, required: str) -> None:
    monkeypatch.setenv("FOAL_REQUIRE", required)
    with pytest.raises(pytest.skip.Exception, match="no Ray"):
        need("ray")


def test_what_is_missing_and_required_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOAL_REQUIRE", "make,ray")
    with pytest.raises(pytest.fail.Exception, match="FOAL_REQUIRE names ray, but: no Ray"):
        need("ray")


@pytest.mark.parametrize("required", ["", "make"])
def test_what_is_there_lets_the_test_run(monkeypatch: pytest.MonkeyPatch, required: str) -> None:
    monkeypatch.setenv("FOAL_REQUIRE", required)
    need("make")


def test_a_misspelt_requirement_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOAL_REQUIRE", "rai")
    with pytest.raises(ValueError, match=r"FOAL_REQUIRE names rai, unknown to the tests; expected .*\bray\b"):
        need("make")


def test_ci_requires_everything_but_cuda() -> None:
    names = re.search(r"^export FOAL_REQUIRE=(\S+)$", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)
    assert set(names[1].split(",")) == REQUIREMENTS.keys() - {"cuda"}


def test_no_other_test_skips_by_itself() -> None:
    skips = re.compile(r"importorskip|mark\.skip|pytest\.skip\((?!\"opened in one way only)")
    helpers = {Path(requirements.__file__), Path(__file__)}
    files = [path for path in (ROOT / "tests").rglob("*.py") if path not in helpers]
    assert len(files) > 50
    assert not [path.name for path in files if skips.search(path.read_text())]
