"""A small Hugging Face Hub on loopback, for tests: enough for the real client to push and to load.

It knows models, datasets and spaces; commits with small files inline and large ones through LFS; revisions; resolving
with ETags and ranges. Everything lives in memory. Its clients are processes that start with the `environment` it gives:
huggingface_hub reads its endpoint when it is imported.
"""

import base64
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import yaml


PREFIXES = {"": "model", "datasets/": "dataset", "spaces/": "space"}
DATE = "2026-01-01T00:00:00.000Z"
_LARGE = re.compile(r"\.(safetensors|parquet|bin)$")
_NO_OID = "0" * 40


@dataclass
class Repository:
    """One repository: every commit is a whole tree of files."""

    kind: str
    name: str
    commits: list[tuple[str, dict[str, bytes], str]] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, tree: dict[str, bytes], title: str) -> str:
        """Add a commit and move the branch to it."""
        sha = hashlib.sha1(f"{self.kind}/{self.name}/{len(self.commits)}".encode()).hexdigest()
        self.commits.append((sha, tree, title))
        self.branches[branch] = sha
        return sha

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Commit and files of a branch or commit; None where there is no such revision."""
        revision = self.branches.get(revision, revision)
        return next(((sha, tree) for sha, tree, _ in self.commits if sha == revision), None)


class LoopbackHub:
    """The server; a context manager. `repositories` can be looked into by tests."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Environment of a client process that knows this Hub only and keeps its cache in `home`."""
        return {
            **os.environ,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": "hf_loopback",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def address(self, kind: str, name: str) -> str:
        """Where a repository is looked at."""
        prefix = next(prefix for prefix, value in PREFIXES.items() if value == kind)
        return f"{self.url}/{prefix}{name}"

    def put(self, name: str, folder: Path, kind: str = "model") -> None:
        """Publish the files of a folder without a client."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.create(kind, name).commit("main", files, "Add files")

    def create(self, kind: str, name: str) -> Repository:
        """A repository with an empty first commit."""
        repository = self.repositories[kind, name] = Repository(kind, name)
        repository.commit("main", {}, "initial commit")
        return repository


def blob_oid(content: bytes) -> str:
    """What git calls this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *arguments: Any) -> None:
        """Nothing: tests are quiet."""

    def answer(self, body: Any = b"", status: int = 200, **headers: str) -> None:
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.answer({"error": message}, status, X_Error_Code=code, X_Error_Message=message)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def handle_any(self) -> None:
        content = self.body()
        with self.hub.lock:
            self.route(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815  (http.server's names)

    def route(self, content: bytes) -> None:
        url = urlparse(self.path)
        path = unquote(url.path)
        if path == "/api/whoami-v2":
            token = {"displayName": "loopback", "role": "write"}
            auth = {"type": "access_token", "accessToken": token}
            self.answer({"type": "user", "name": "tester", "orgs": [{"name": "org"}], "auth": auth})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self.create(json.loads(content))
        elif path.startswith("/lfs/"):
            self.large_file(path.removeprefix("/lfs/"), content)
        elif match := re.fullmatch(r"/(?:datasets/|spaces/|)[^/]+/[^/]+\.git/info/lfs/objects/batch", path):
            self.answer({"transfer": "basic", "objects": self.wanted(json.loads(content)["objects"])})
        elif match := re.fullmatch(r"/api/(model|dataset|space)s/([^/]+/[^/]+)(?:/([a-z-]+)(?:/(.*))?)?", path):
            self.api(match[1], match[2], match[3] or "revision", match[4] or "", parse_qs(url.query), content)
        elif match := re.fullmatch(r"/(datasets/|spaces/|)([^/]+/[^/]+)/resolve/(refs/[^/]+/[^/]+|[^/]+)/(.+)", path):
            self.resolve(PREFIXES[match[1]], match[2], match[3], match[4])
        else:
            self.refuse(404, "NotFound", f"no route {self.command} {path}")

    def create(self, wanted: dict[str, Any]) -> None:
        kind = wanted.get("type") or "model"
        name = f"{wanted.get('organization') or 'tester'}/{wanted['name']}"
        answer = {"url": self.hub.address(kind, name), "name": name, "id": "0" * 24}
        if (kind, name) in self.hub.repositories:
            self.answer({**answer, "error": "You already created this repo"}, 409)
        else:
            self.hub.create(kind, name)
            self.answer(answer)

    def large_file(self, oid: str, content: bytes) -> None:
        if self.command == "PUT":
            self.hub.large_files[oid] = content
            self.answer()
        else:
            self.answer(self.hub.large_files[oid])

    def wanted(self, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Which large files still have to be uploaded, and where to."""
        answer = []
        for item in objects:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}", "header": {}}}
            known = item["oid"] in self.hub.large_files
            answer.append({"oid": item["oid"], "size": item["size"], **({} if known else {"actions": actions})})
        return answer

    def api(self, kind: str, name: str, what: str, rest: str, query: dict[str, list[str]], content: bytes) -> None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            self.refuse(404, "RepoNotFound", "Repository not found")
        elif what == "refs":
            branches = [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": sha}
                for branch, sha in repository.branches.items()
            ]
            self.answer({"branches": branches, "tags": [], "converts": []})
        elif what == "branch":
            repository.branches.setdefault(rest, repository.branches["main"])
            self.answer({})
        elif what == "preupload":
            self.preupload(repository, rest, json.loads(content)["files"])
        elif what == "commit":
            self.commit(repository, rest, content)
        else:
            self.look(repository, what, rest, query, content)

    def preupload(self, repository: Repository, revision: str, files: list[dict[str, Any]]) -> None:
        _, tree = repository.at(revision) or ("", {})
        answer = []
        for file in files:
            mode = "lfs" if _LARGE.search(file["path"]) else "regular"
            known = {"oid": blob_oid(tree[file["path"]])} if file["path"] in tree else {}
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **known})
        self.answer({"files": answer})

    def commit(self, repository: Repository, branch: str, content: bytes) -> None:
        found = repository.at(branch)
        if found is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        tree, title = dict(found[1]), ""
        for line in filter(bytes.strip, content.splitlines()):
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "header":
                    title = value["summary"]
                case "file":
                    tree[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    tree[value["path"]] = self.hub.large_files[value["oid"]]
                case "deletedFile":
                    tree.pop(value["path"])
                case "deletedFolder":
                    prefix = value["path"].rstrip("/") + "/"
                    tree = {path: file for path, file in tree.items() if not path.startswith(prefix)}
        sha = repository.commit(branch, tree, title)
        url = f"{self.hub.address(repository.kind, repository.name)}/commit/{sha}"
        self.answer({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def look(self, repository: Repository, what: str, rest: str, query: dict[str, list[str]], content: bytes) -> None:
        revision, _, path = rest.partition("/")
        found = repository.at(revision or "main")
        if found is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        sha, tree = found
        if what == "revision":
            self.answer(self.information(repository, sha, tree))
        elif what == "commits":
            commit = {"message": "", "authors": [], "date": DATE}
            self.answer([{"id": sha, "title": title, **commit} for sha, _, title in reversed(repository.commits)])
        elif what == "paths-info":
            is_json = "json" in self.headers.get("Content-Type", "")
            paths = json.loads(content)["paths"] if is_json else parse_qs(content.decode())["paths"]
            folders = [path for path in paths if any(file.startswith(path + "/") for file in tree)]
            self.answer([_file(tree, path) for path in paths if path in tree] + [_folder(path) for path in folders])
        elif what == "tree":
            self.listing(tree, path, recursive=query.get("recursive", ["false"])[0].lower() in ("true", "1"))
        else:
            self.refuse(404, "NotFound", f"no api {what}")

    def information(self, repository: Repository, sha: str, tree: dict[str, bytes]) -> dict[str, Any]:
        """What the Hub says of a repository."""
        information: dict[str, Any] = {
            "_id": "0" * 24,
            "id": repository.name,
            "modelId": repository.name,
            "author": repository.name.split("/")[0],
            "sha": sha,
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "lastModified": DATE,
            "createdAt": DATE,
            "siblings": [{"rfilename": path} for path in sorted(tree)],
        }
        if header := re.match(r"---\n(.*?)\n---", tree.get("README.md", b"").decode(), re.DOTALL):
            card = information["cardData"] = yaml.safe_load(header[1]) or {}
            information |= {name: card[name] for name in ("pipeline_tag", "library_name") if name in card}
        return information

    def listing(self, tree: dict[str, bytes], path: str, *, recursive: bool) -> None:
        prefix = path.rstrip("/") + "/" if path else ""
        files = [file for file in sorted(tree) if file.startswith(prefix)]
        if prefix and not files:
            return self.refuse(404, "EntryNotFound", f"{path} does not exist")
        parents = {str(parent) for file in files for parent in Path(file).parents} - {".", prefix.rstrip("/")}
        entries = [_folder(parent) for parent in sorted(parents)] + [_file(tree, file) for file in files]
        self.answer([entry for entry in entries if recursive or "/" not in entry["path"].removeprefix(prefix)])

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self.refuse(404, "RepoNotFound", "Repository not found")
        found = repository.at(revision)
        if found is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        sha, tree = found
        if path not in tree:
            return self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        content = tree[path]
        headers = {"ETag": f'"{blob_oid(content)}"', "X_Repo_Commit": sha, "Accept_Ranges": "bytes"}
        if span := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
            headers["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
            return self.answer(content[first : last + 1], 206, **headers)
        self.answer(content, **headers)


def _file(tree: dict[str, bytes], path: str) -> dict[str, Any]:
    return {"type": "file", "oid": blob_oid(tree[path]), "size": len(tree[path]), "path": path}


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "oid": _NO_OID, "size": 0, "path": path}
