"""What the Hub on loopback answers: its API, its files, and the store of large files that the real one keeps elsewhere.

Statuses, headers and messages are those that huggingface_hub 2.4 reads. One difference is on purpose: a repository that
somebody without a token may not see is a 401 with the code RepoNotFound, since the client takes a bare 401 for that
only where the address begins with https.
"""

import base64
import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import yaml
from loopback_hub_http import Answer, RefusedError, Request, file_answer, json_answer
from loopback_hub_store import (
    DATE,
    PREFIXES,
    Commit,
    LargeFile,
    Repository,
    card_header,
    content_oid,
    describe_file,
    describe_folder,
    describe_repository,
    history,
    is_large,
)


if TYPE_CHECKING:
    from loopback_hub import LoopbackHub

_NAME = r"[^/]+/[^/]+"
_LFS = re.compile(rf"/(datasets/|spaces/|)({_NAME})\.git/info/lfs/objects/batch")
_API = re.compile(rf"/api/(model|dataset|space)s/({_NAME})(?:/([a-z-]+)(?:/(refs/[^/]+/[^/]+|[^/]+)(?:/(.*))?)?)?")
_RESOLVE = re.compile(rf"/(datasets/|spaces/|)({_NAME})/resolve/(refs/[^/]+/[^/]+|[^/]+)/(.+)")
_STORED = re.compile(rf"/(model|dataset|space)/({_NAME})/([0-9a-f]{{64}})")
_REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def answer_api(hub: "LoopbackHub", request: Request) -> Answer:
    """What the Hub itself answers.

    Raises:
        RefusedError: With the answer, where it says no.
    """
    if request.token is not None and request.token not in hub.tokens:
        raise RefusedError(401, "Invalid credentials in Authorization header")
    return _Exchange(hub, request).route()


def answer_storage(hub: "LoopbackHub", request: Request) -> Answer:
    """What the store of large files answers. Whoever has an address may use it: the Hub gives them out, for a while."""
    match = _STORED.fullmatch(unquote(request.path))
    repository = hub.repositories.get((match[1], match[2])) if match else None
    if match is None or repository is None:
        raise RefusedError(404, "no such place")
    if request.method == "PUT":
        if hashlib.sha256(request.content).hexdigest() != match[3]:
            raise RefusedError(400, "BadDigest: the content is not what its sha256 says")
        repository.large_files[match[3]] = LargeFile(request.content)
        return Answer()
    if match[3] not in repository.large_files:
        raise RefusedError(404, "no such file")
    return file_answer(request, repository.large_files[match[3]], match[3])


class _Exchange:
    """One request to the Hub and whoever makes it."""

    def __init__(self, hub: "LoopbackHub", request: Request) -> None:
        self.hub = hub
        self.request = request
        self.token = hub.tokens.get(request.token or "")

    def route(self) -> Answer:
        path = self.request.path
        match path:
            case "/api/whoami-v2":
                return self.whoami()
            case "/api/validate-yaml":
                return validate_card(self.json())
            case "/api/repos/create":
                return self.create(self.json())
            case "/api/repos/delete":
                return self.delete(self.json())
        if match := _LFS.fullmatch(path):
            return self.large_files_wanted(self.writable(PREFIXES[match[1]], match[2]))
        if match := _API.fullmatch(path):
            kind, name, what, revision, rest = match.groups()
            return self.repository_api(kind, name, what or "revision", unquote(revision or "main"), unquote(rest or ""))
        if match := _RESOLVE.fullmatch(path):
            return self.resolve(PREFIXES[match[1]], match[2], unquote(match[3]), unquote(match[4]))
        raise RefusedError(404, f"no route {self.request.method} {path}")

    def json(self) -> dict[str, Any]:
        return json.loads(self.request.content or b"{}")

    # Who is asking, and what they may see and do.

    def whoami(self) -> Answer:
        if self.token is None:
            raise RefusedError(401, "Invalid username or password.")
        auth = {"type": "access_token", "accessToken": {"displayName": "loopback", "role": self.token.role}}
        organisations = [{"name": name} for name in self.token.organisations]
        return json_answer({"type": "user", "name": self.token.user, "orgs": organisations, "auth": auth})

    def visible(self, kind: str, name: str) -> Repository:
        repository = self.hub.repositories.get((kind, name))
        if repository is None or not repository.is_visible_to(self.token):
            if self.token is None:
                raise RefusedError(401, "Invalid username or password.", "RepoNotFound")
            raise RefusedError(404, "Repository not found", "RepoNotFound")
        return repository

    def readable(self, kind: str, name: str) -> Repository:
        repository = self.visible(kind, name)
        if not repository.is_readable_by(self.token):
            restricted = f"Access to {kind} {name} is restricted"
            if self.token is None:
                raise RefusedError(401, f"{restricted}. You must be authenticated. Please log in.", "GatedRepo")
            raise RefusedError(403, f"{restricted} and you are not in the authorized list.", "GatedRepo")
        return repository

    def writable(self, kind: str, name: str) -> Repository:
        repository = self.visible(kind, name)
        if self.token is None:
            raise RefusedError(401, "Invalid username or password.")
        if not self.token.may_write(name):
            raise RefusedError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return repository

    def commit_at(self, repository: Repository, revision: str) -> Commit:
        commit = repository.find(revision)
        if commit is None:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # Repositories.

    def create(self, wanted: dict[str, Any]) -> Answer:
        if self.token is None:
            raise RefusedError(401, "Invalid username or password.")
        kind, namespace = wanted.get("type") or "model", wanted.get("organization") or self.token.user
        name = f"{namespace}/{wanted['name']}"
        answer = {"url": self.hub.address(kind, name), "name": name, "id": "0" * 24}
        if (kind, name) in self.hub.repositories and self.token.owns(name):
            error = f"You already created this {kind} repo"
            return json_answer({**answer, "error": error}, 409, {"X-Error-Message": error})
        if not self.token.may_write(name):
            raise RefusedError(403, f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"')
        repository = self.hub.create(kind, name, with_attributes=True)
        repository.private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        return json_answer(answer)

    def delete(self, unwanted: dict[str, Any]) -> Answer:
        kind, namespace = (
            unwanted.get("type") or "model",
            unwanted.get("organization") or getattr(self.token, "user", ""),
        )
        repository = self.writable(kind, f"{namespace}/{unwanted['name']}")
        del self.hub.repositories[repository.kind, repository.name]
        return Answer()

    def repository_api(self, kind: str, name: str, what: str, revision: str, rest: str) -> Answer:
        match self.request.method, what:
            case "GET", "auth-check":
                self.readable(kind, name)
                return Answer()
            case "GET", "refs":
                return self.refs(self.visible(kind, name))
            case "PUT", "settings":
                return self.change_settings(self.writable(kind, name))
            case "POST" | "DELETE", "branch" | "tag":
                return self.change_ref(self.writable(kind, name), what, revision)
            case "POST", "preupload":
                return self.upload_modes(self.writable(kind, name), revision)
            case "POST", "commit":
                return self.commit(self.writable(kind, name), revision)
            case "GET", "revision":
                repository = self.visible(kind, name)
                with_blobs = self.request.query.get("blobs", ["false"])[0].lower() in ("true", "1")
                commit = self.commit_at(repository, revision)
                return json_answer(describe_repository(repository, commit, with_blobs=with_blobs))
            case "GET", "commits":
                return self.commits(self.commit_at(self.visible(kind, name), revision))
            case "POST", "paths-info":
                return self.paths_info(self.commit_at(self.visible(kind, name), revision))
            case "GET", "tree":
                return self.listing(self.commit_at(self.visible(kind, name), revision), rest)
        raise RefusedError(404, f"no api {self.request.method} {what}")

    def refs(self, repository: Repository) -> Answer:
        named = {"heads": repository.branches, "tags": repository.tags}
        heads, tags = (
            [{"name": name, "ref": f"refs/{place}/{name}", "targetCommit": sha} for name, sha in refs.items()]
            for place, refs in named.items()
        )
        return json_answer({"branches": heads, "tags": tags, "converts": []})

    def change_settings(self, repository: Repository) -> Answer:
        wanted = self.json()
        if "private" in wanted or "visibility" in wanted:
            repository.private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        repository.gated = bool(wanted.get("gated", repository.gated))
        return json_answer({})

    def change_ref(self, repository: Repository, what: str, name: str) -> Answer:
        refs, start = repository.branches, self.json().get("startingPoint", "main")
        if what == "tag":
            refs = repository.tags
            name, start = (self.json()["tag"], name) if self.request.method == "POST" else (name, "main")
        if self.request.method == "DELETE":
            if refs.pop(name, None) is None:
                raise RefusedError(404, f"Invalid rev id: {name}", "RevisionNotFound")
        elif name in refs:
            raise RefusedError(409, f"Reference already exists: {name}")
        else:
            refs[name] = self.commit_at(repository, start).sha
        return json_answer({})

    # Commits.

    def upload_modes(self, repository: Repository, revision: str) -> Answer:
        tree = self.commit_at(repository, revision).tree
        answer = []
        for file in self.json()["files"]:
            path = file["path"]
            mode = "lfs" if is_large(path, file["size"]) else "regular"
            known = {"oid": content_oid(tree[path])} if path in tree else {}
            answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
        return json_answer({"files": answer})

    def large_files_wanted(self, repository: Repository) -> Answer:
        """Which large files still have to be uploaded, and where to."""
        answer = []
        for item in self.json()["objects"]:
            actions = {"upload": {"href": self.hub.storage_address(repository, item["oid"]), "header": {}}}
            known = item["oid"] in repository.large_files
            answer.append({"oid": item["oid"], "size": item["size"], **({} if known else {"actions": actions})})
        return json_answer({"transfer": "basic", "objects": answer})

    def commit(self, repository: Repository, branch: str) -> Answer:
        if branch not in repository.branches:
            raise RefusedError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = self.commit_at(repository, branch)
        tree, title = dict(head.tree), ""
        for line in filter(bytes.strip, self.request.content.splitlines()):
            entry = json.loads(line)
            value = entry["value"]
            match entry["key"]:
                case "header":
                    title = value["summary"]
                    if value.get("parentCommit", head.sha) != head.sha:
                        raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
                case "file":
                    tree[value["path"]] = base64.b64decode(value["content"], validate=True)
                case "lfsFile":
                    file = repository.large_files.get(value["oid"])
                    if file is None or value.get("size", len(file)) != len(file):
                        raise RefusedError(400, "LFS pointer pointed to a file that does not exist")
                    tree[value["path"]] = file
                case "deletedFile":
                    if tree.pop(value["path"], None) is None:
                        raise RefusedError(404, "A file with this name doesn't exist", "EntryNotFound")
                case "deletedFolder":
                    prefix = value["path"].rstrip("/") + "/"
                    tree = {path: file for path, file in tree.items() if not path.startswith(prefix)}
                case key:
                    raise RefusedError(400, f"no operation {key}")
        sha = repository.commit(branch, tree, title)  # the only place where a branch moves: a commit is whole or none
        url = f"{self.hub.address(repository.kind, repository.name)}/commit/{sha}"
        return json_answer({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    # Looking at a commit.

    def commits(self, commit: Commit) -> Answer:
        rest = {"message": "", "authors": [], "date": DATE}
        return json_answer([{"id": one.sha, "title": one.title, **rest} for one in history(commit)])

    def paths_info(self, commit: Commit) -> Answer:
        is_json = "json" in self.request.headers.get("Content-Type", "")
        paths = self.json()["paths"] if is_json else parse_qs(self.request.content.decode()).get("paths", [])
        folders = [path for path in paths if any(file.startswith(path + "/") for file in commit.tree)]
        files = [describe_file(commit.tree, path) for path in paths if path in commit.tree]
        return json_answer([*files, *map(describe_folder, folders)])

    def listing(self, commit: Commit, folder: str) -> Answer:
        prefix = folder.rstrip("/") + "/" if folder else ""
        files = [file for file in sorted(commit.tree) if file.startswith(prefix)]
        if prefix and not files:
            raise RefusedError(404, f"{folder} does not exist", "EntryNotFound")
        parents = {str(parent) for file in files for parent in PurePosixPath(file).parents}
        parents = {parent for parent in parents if parent != "." and parent.startswith(prefix)}
        entries = [describe_folder(parent) for parent in sorted(parents)]
        entries += [describe_file(commit.tree, file) for file in files]
        is_recursive = self.request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        return json_answer(
            [entry for entry in entries if is_recursive or "/" not in entry["path"].removeprefix(prefix)]
        )

    def resolve(self, kind: str, name: str, revision: str, path: str) -> Answer:
        repository = self.readable(kind, name)
        commit = self.commit_at(repository, revision)
        if path not in commit.tree:
            raise RefusedError(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit.sha})
        content = commit.tree[path]
        headers = {"X-Repo-Commit": commit.sha}
        if not isinstance(content, LargeFile):
            return file_answer(self.request, content, content_oid(content), headers)
        headers |= {
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{content.sha256}"',
            "Location": self.hub.storage_address(repository, content.sha256),
        }
        return Answer(b"", 302, headers)


def validate_card(wanted: dict[str, Any]) -> Answer:
    """What the Hub finds wrong with the header of a card, of what it checks the part that cards get wrong."""
    errors = []
    try:
        card = card_header(wanted["content"].encode())
    except yaml.YAMLError as error:
        card, errors = {}, [f"YAML cannot be read: {error}"]
    for key in ("base_model", "datasets"):
        values = card.get(key) or []
        for value in [values] if isinstance(values, str) else values:
            if not _REPO_ID.fullmatch(str(value)):
                errors.append(f'"{key}" with value "{value}" is not valid')
    answer = {"errors": [{"message": message} for message in errors], "warnings": []}
    return json_answer(answer, 400 if errors else 200)
