"""What the Hub on loopback holds: repositories with their commits, and who may do what with them."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import yaml


DATE = "2026-01-01T00:00:00.000Z"
PREFIXES = {"": "model", "datasets/": "dataset", "spaces/": "space"}
LARGE_SUFFIXES = ("7z", "arrow", "bin", "mp4", "npz", "parquet", "pt", "safetensors", "wav", "zip")
ATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_SUFFIXES).encode()
LARGE_BYTES = 10 * 1024 * 1024
_NO_OID = "0" * 40


class LargeFile(bytes):
    """Content of a file that goes through LFS."""

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What stands in git in its place."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self)}\n".encode()


class Commit(NamedTuple):
    """The whole tree of files after a commit. No file is ever changed in place."""

    sha: str
    tree: dict[str, bytes]
    title: str
    parent: "Commit | None"


@dataclass(frozen=True)
class Token:
    """Whom a token stands for. A user owns the repositories under their name and under those of their organisations."""

    user: str
    role: str = "write"
    organisations: tuple[str, ...] = ()

    def owns(self, name: str) -> bool:
        """Whether a repository or namespace is the user's."""
        return name.split("/")[0] in (self.user, *self.organisations)

    def may_write(self, name: str) -> bool:
        return self.role == "write" and self.owns(name)


@dataclass
class Repository:
    """One repository.

    `gated` hides the content, not the existence, from everybody but the owners and the users in `granted`. Content of
    large files is known from the upload on, before a commit names it.
    """

    kind: str
    name: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    commits: list[Commit] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    large_files: dict[str, LargeFile] = field(default_factory=dict)

    def commit(self, branch: str, tree: dict[str, bytes], title: str) -> str:
        """Add a commit and move the branch to it."""
        sha = hashlib.sha1(f"{self.kind}/{self.name}/{len(self.commits)}".encode()).hexdigest()
        parent = self.find(branch) if branch in self.branches else None
        self.large_files |= {file.sha256: file for file in tree.values() if isinstance(file, LargeFile)}
        self.commits.append(Commit(sha, tree, title, parent))
        self.branches[branch] = sha
        return sha

    def find(self, revision: str) -> Commit | None:
        """The commit of a branch, tag or sha; None where there is no such revision."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        return next((commit for commit in self.commits if commit.sha == sha), None)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Sha and files of a revision; None where there is no such revision."""
        commit = self.find(revision)
        return None if commit is None else (commit.sha, commit.tree)

    def is_visible_to(self, token: Token | None) -> bool:
        return not self.private or (token is not None and token.owns(self.name))

    def is_readable_by(self, token: Token | None) -> bool:
        return not self.gated or (token is not None and (token.owns(self.name) or token.user in self.granted))


def history(commit: Commit | None) -> Iterator[Commit]:
    """A commit and those before it, newest first."""
    while commit is not None:
        yield commit
        commit = commit.parent


def is_large(path: str, size: int) -> bool:
    """Whether the Hub wants a file through LFS."""
    return bool(size) and (path.rsplit(".", 1)[-1] in LARGE_SUFFIXES or size > LARGE_BYTES)


def blob_oid(content: bytes) -> str:
    """What git calls this content; of a large file, what it calls the pointer."""
    content = content.pointer if isinstance(content, LargeFile) else content
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def content_oid(content: bytes) -> str:
    """What says that content is the same: the sha256 of a large file, git's name of another."""
    return content.sha256 if isinstance(content, LargeFile) else blob_oid(content)


def describe_file(tree: dict[str, bytes], path: str) -> dict[str, Any]:
    """A file as an entry of a listing."""
    content = tree[path]
    entry = {"type": "file", "oid": blob_oid(content), "size": len(content), "path": path}
    if isinstance(content, LargeFile):
        entry["lfs"] = {"oid": content.sha256, "size": len(content), "pointerSize": len(content.pointer)}
    return entry


def describe_folder(path: str) -> dict[str, Any]:
    """A folder as an entry of a listing."""
    return {"type": "directory", "oid": _NO_OID, "size": 0, "path": path}


def card_header(card: bytes) -> dict[str, Any]:
    """The YAML header of a README.md. Raises yaml.YAMLError where it is none."""
    header = re.match(r"---\r?\n(.*?)\r?\n---", card.decode(), re.DOTALL)
    return (yaml.safe_load(header[1]) or {}) if header else {}


def describe_repository(repository: Repository, commit: Commit, *, with_blobs: bool) -> dict[str, Any]:
    """What the Hub says of a repository at a commit."""
    siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(commit.tree)]
    if with_blobs:
        for sibling in siblings:
            file = describe_file(commit.tree, sibling["rfilename"])
            sibling |= {"size": file["size"], "blobId": file["oid"]}
            if "lfs" in file:
                sibling["lfs"] = {"sha256": file["lfs"]["oid"], **file["lfs"]}
    card = card_header(commit.tree.get("README.md", b""))
    return {
        "_id": "0" * 24,
        "id": repository.name,
        "modelId": repository.name,
        "author": repository.name.split("/")[0],
        "sha": commit.sha,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "lastModified": DATE,
        "createdAt": DATE,
        "siblings": siblings,
        **({"cardData": card} if card else {}),
        **{name: card[name] for name in ("pipeline_tag", "library_name") if name in card},
    }
