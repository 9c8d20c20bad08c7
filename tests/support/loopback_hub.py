"""A small Hugging Face Hub on loopback, for tests: the real client pushes to it, loads from it and is refused by it.

It knows models, datasets and spaces, private and gated ones; tokens that may read or write; commits with small files
inline and large ones through LFS; branches, tags and revisions; resolving with ETags and ranges. Everything lives in
memory. Large files are served from a second port, as the real Hub serves them from another host. A test can look at
what was asked (`requests`), and plan what goes wrong (`fail_next`, `cut_next`).
"""

import os
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, constants, file_download
from huggingface_hub.utils import _http
from loopback_hub_api import answer_api, answer_storage
from loopback_hub_http import CutAt, Failure, Seen, Traffic, make_server
from loopback_hub_store import ATTRIBUTES, PREFIXES, LargeFile, Repository, Token, history, is_large


if TYPE_CHECKING:
    import pytest

WRITE_TOKEN, READ_TOKEN, STRANGERS_TOKEN = "hf_loopback", "hf_loopback_read", "hf_loopback_stranger"


class LoopbackHub:
    """The server; a context manager. `repositories` can be looked into, and changed, by tests.

    The user `tester` owns the namespaces `tester` and `org`, and has a token that may write and one that may read.
    A `stranger` may write too, elsewhere.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.tokens = {
            WRITE_TOKEN: Token("tester", organisations=("org",)),
            READ_TOKEN: Token("tester", role="read", organisations=("org",)),
            STRANGERS_TOKEN: Token("stranger"),
        }
        self._traffic = Traffic()
        self._servers = [make_server(partial(answer, self), self._traffic) for answer in (answer_api, answer_storage)]
        ports = [server.server_address[1] for server in self._servers]
        # By another name of the host too: huggingface_hub 1 takes two ports of one host for the same place.
        self.url, self.storage_url = f"http://127.0.0.1:{ports[0]}", f"http://localhost:{ports[1]}"

    def __enter__(self) -> "LoopbackHub":
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    # Clients.

    def environment(self, home: Path, token: str | None = WRITE_TOKEN) -> dict[str, str]:
        """Environment of a client process that knows this Hub only and keeps its cache in `home`.

        huggingface_hub reads it when it is imported: a process that runs already needs `serve_this_process`.
        """
        settings = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            **({"HF_TOKEN": token} if token else {}),
        }
        return {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | settings

    def serve_this_process(
        self, monkeypatch: "pytest.MonkeyPatch", home: Path, token: str | None = WRITE_TOKEN
    ) -> None:
        """Make this the Hub that huggingface_hub talks to in this process, without pauses, until the test ends."""
        settings = {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_DISABLE_XET": True,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        for module in (_http, file_download):  # between two attempts
            monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: None))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)

    def client(self, token: str | None = WRITE_TOKEN) -> HfApi:
        """A client in this process."""
        return HfApi(endpoint=self.url, token=token or False)

    # What it holds.

    def address(self, kind: str, name: str) -> str:
        """Where a repository is looked at."""
        prefix = next(prefix for prefix, value in PREFIXES.items() if value == kind)
        return f"{self.url}/{prefix}{name}"

    def storage_address(self, repository: Repository, sha256: str) -> str:
        """Where a large file is uploaded to and downloaded from."""
        return f"{self.storage_url}/{repository.kind}/{repository.name}/{sha256}"

    def put(self, name: str, folder: Path, kind: str = "model") -> Repository:
        """Publish the files of a folder without a client."""
        paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        contents = {name: path.read_bytes() for name, path in paths.items()}
        tree = {name: LargeFile(file) if is_large(name, len(file)) else file for name, file in contents.items()}
        repository = self.create(kind, name)
        repository.commit("main", tree, "Add files")
        return repository

    def create(self, kind: str, name: str, *, with_attributes: bool = False) -> Repository:
        """A repository with a first commit: empty, or with the .gitattributes that the real Hub begins with."""
        repository = self.repositories[kind, name] = Repository(kind, name)
        repository.commit("main", {".gitattributes": ATTRIBUTES} if with_attributes else {}, "initial commit")
        return repository

    def files(self, kind: str, name: str, revision: str = "main") -> dict[str, bytes]:
        """Files of a revision, without the .gitattributes that the Hub adds."""
        commit = self.repositories[kind, name].find(revision)
        assert commit is not None, f"{name} has no revision {revision}"
        return {path: content for path, content in commit.tree.items() if path != ".gitattributes"}

    def titles(self, kind: str, name: str, revision: str = "main") -> list[str]:
        """Titles of the commits of a revision after the initial one, oldest first."""
        return [commit.title for commit in history(self.repositories[kind, name].find(revision))][-2::-1]

    # What was asked, and what goes wrong.

    @property
    def requests(self) -> list[Seen]:
        """Every request so far, in the order in which it was answered."""
        with self._traffic.lock:
            return list(self._traffic.seen)

    def asked(self, method: str = "", path_contains: str = "") -> list[Seen]:
        """The requests of a method to a place."""
        return [seen for seen in self.requests if seen.method.startswith(method) and path_contains in seen.path]

    def forget_requests(self) -> None:
        """Begin to note down anew."""
        with self._traffic.lock:
            self._traffic.seen.clear()

    def fail_next(self, status: int = 503, *, times: int = 1, method: str = "", path_contains: str = "") -> None:
        """Answer the next requests that match with an error, without doing anything."""
        self._traffic.failures.append(Failure(status=status, times=times, method=method, path_contains=path_contains))

    def cut_next(self, cut_at: CutAt, *, times: int = 1, method: str = "", path_contains: str = "") -> None:
        """Cut the connection of the next requests that match.

        Args:
            cut_at (`str`): `"reading"`, in the middle of the request's body; `"working"`, before anything is done;
                `"answering"`, after everything is done and before a word is said; `"sending"`, in the middle of the
                answer's body.
            times (`int`, defaults to 1): How many requests.
            method, path_contains (`str`): Which requests; all by default.
        """
        self._traffic.failures.append(Failure(cut_at=cut_at, times=times, method=method, path_contains=path_contains))

    def plan_no_failures(self) -> None:
        """Take back what was planned to go wrong and has not."""
        self._traffic.failures.clear()
