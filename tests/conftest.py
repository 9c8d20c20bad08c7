"""What every test finds: the default checkpoint installed, with tiny weights, whatever the machine has."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def tiny_default(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from default_checkpoints import install

    with pytest.MonkeyPatch.context() as monkeypatch:
        install(monkeypatch, tmp_path_factory.mktemp("site"))
        yield
