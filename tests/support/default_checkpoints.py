"""Machines with and without an installed default checkpoint."""

import shutil
import sys
from pathlib import Path

import pytest

from foal_hf import TINY_CHECKPOINT, default_checkpoint


WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "foal-net-small"


def make_distribution(site: Path) -> Path:
    """Put the package of the default checkpoint into a folder for `sys.path`, with tiny weights; gives those."""
    package = shutil.copytree(WEIGHTS / "foal_net_small", site / "foal_net_small", ignore=lambda *_: {"checkpoint"})
    return shutil.copytree(TINY_CHECKPOINT, package / "checkpoint")


def install(monkeypatch: pytest.MonkeyPatch, site: Path) -> Path:
    """Install the default checkpoint for this process and the processes that it starts, until the test ends."""
    folder = make_distribution(site)
    _forget(monkeypatch)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
    return folder


def uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide an installed default checkpoint from this process, until the test ends."""
    _forget(monkeypatch)
    monkeypatch.setitem(sys.modules, "foal_net_small", None)


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "foal_net_small", raising=False)
    default_checkpoint._warn_of_the_licence.cache_clear()
