"""The real client against the Hub on loopback: it sees what the real Hub would show it."""

import hashlib
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    constants,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from loopback_hub import READ_TOKEN, STRANGERS_TOKEN, WRITE_TOKEN, LoopbackHub


WEIGHTS = bytes(range(251)) * 13
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
NAME = "org/foal-net"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A Hub with one repository of a small and a large file, which this process talks to."""
    folder = tmp_path / "published"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "model.safetensors").write_bytes(WEIGHTS)
    with LoopbackHub() as hub:
        hub.put(NAME, folder)
        hub.serve_this_process(monkeypatch, tmp_path / "home")
        yield hub


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def get(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers, without following redirects."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *arguments: object) -> None:
            return None

    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.build_opener(Stay).open(request) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read(), dict(answer.headers)


# Who may see what.


@pytest.mark.parametrize(("token", "status"), [(WRITE_TOKEN, 404), (None, 401)])
def test_a_missing_repository_is_not_found(hub: LoopbackHub, token: str | None, status: int) -> None:
    with pytest.raises(RepositoryNotFoundError) as caught:
        hub.client(token).repo_info("org/nothing")
    assert caught.value.response.status_code == status
    assert not hub.client(token).repo_exists("org/nothing")


@pytest.mark.parametrize("token", [STRANGERS_TOKEN, None])
def test_a_private_repository_is_not_found_by_others(hub: LoopbackHub, token: str | None) -> None:
    hub.client().create_repo("org/secret", private=True)
    assert hub.client(READ_TOKEN).repo_info("org/secret").private
    with pytest.raises(RepositoryNotFoundError):
        hub.client(token).repo_info("org/secret")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("org/secret", ".gitattributes", token=token or False)


def test_an_unknown_token_is_refused_even_where_none_is_needed(hub: LoopbackHub) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        hub.client("hf_made_up").repo_info(NAME)
    assert caught.value.response.status_code == 401 and not isinstance(caught.value, RepositoryNotFoundError)
    assert hub.client(None).repo_info(NAME).id == NAME


@pytest.mark.parametrize(("token", "status"), [(None, 401), (STRANGERS_TOKEN, 403)])
def test_a_gated_repository_shows_itself_and_not_its_content(hub: LoopbackHub, token: str | None, status: int) -> None:
    hub.client().update_repo_settings(NAME, gated="manual")
    assert hub.client(token).repo_info(NAME).gated == "manual"
    with pytest.raises(GatedRepoError) as caught:
        hf_hub_download(NAME, "config.json", token=token or False)
    assert caught.value.response.status_code == status


def test_a_gated_repository_opens_to_whom_it_was_granted(hub: LoopbackHub) -> None:
    repository = hub.repositories["model", NAME]
    repository.gated, repository.granted = True, {"stranger"}
    assert Path(hf_hub_download(NAME, "config.json", token=STRANGERS_TOKEN)).read_text() == "{}"


@pytest.mark.parametrize(("token", "status"), [(READ_TOKEN, 403), (STRANGERS_TOKEN, 403), (None, 401)])
def test_only_a_token_that_may_write_pushes(hub: LoopbackHub, token: str | None, status: int) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        hub.client(token).create_commit(NAME, [add("new.txt", b"new")], commit_message="Push")
    assert caught.value.response.status_code == status
    with pytest.raises(HfHubHTTPError) as caught:
        hub.client(token).create_repo("org/new")
    assert caught.value.response.status_code == status
    assert "new.txt" not in hub.files("model", NAME) and ("model", "org/new") not in hub.repositories


def test_a_token_is_never_noted_down(hub: LoopbackHub) -> None:
    hub.client().repo_info(NAME)
    hub.client(None).repo_info(NAME)
    assert [seen.has_token for seen in hub.requests] == [True, False]
    assert WRITE_TOKEN not in repr(hub.requests)


# Looking and loading.


def test_a_missing_revision_and_a_missing_file_are_told_apart(hub: LoopbackHub) -> None:
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(NAME, "config.json", revision="v9")
    with pytest.raises(RevisionNotFoundError):
        hub.client().repo_info(NAME, revision="v9")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(NAME, "nothing.json")


def test_listings_tell_large_files_from_small_ones(hub: LoopbackHub) -> None:
    entries = {entry.path: entry for entry in hub.client().list_repo_tree(NAME, recursive=True)}
    assert set(entries) == {"config.json", "sub", "sub/model.safetensors"}
    assert entries["sub/model.safetensors"].lfs.sha256 == SHA256 and entries["config.json"].lfs is None
    assert {entry.path for entry in hub.client().list_repo_tree(NAME)} == {"config.json", "sub"}
    sizes = {file.rfilename: file.size for file in hub.client().repo_info(NAME, files_metadata=True).siblings}
    assert sizes == {"config.json": 2, "sub/model.safetensors": len(WEIGHTS)}


def test_a_large_file_is_fetched_from_elsewhere_without_the_token(hub: LoopbackHub) -> None:
    file = Path(hf_hub_download(NAME, "sub/model.safetensors"))
    assert file.read_bytes() == WEIGHTS and file.resolve().name == SHA256
    assert [seen.has_token for seen in hub.asked("GET", SHA256)] == [False]
    assert [seen.has_token for seen in hub.asked("HEAD", "model.safetensors")] == [True]


def test_what_is_cached_is_not_fetched_again(hub: LoopbackHub) -> None:
    folder = snapshot_download(NAME)
    assert (Path(folder) / "sub" / "model.safetensors").read_bytes() == WEIGHTS
    hub.forget_requests()
    assert snapshot_download(NAME) == folder
    hf_hub_download(NAME, "sub/model.safetensors")
    hub.client().create_commit(NAME, [add("config.json", b"[]")], commit_message="Change the small file")
    hub.forget_requests()
    assert (Path(snapshot_download(NAME)) / "config.json").read_text() == "[]"
    assert not hub.asked("GET", SHA256) and len(hub.asked("GET", "config.json")) == 1


def test_nothing_is_asked_offline(hub: LoopbackHub, tmp_path: Path) -> None:
    code = f"from huggingface_hub import snapshot_download; print(snapshot_download({NAME!r}))"
    environment = hub.environment(tmp_path / "home")

    def run(**settings: str) -> str:
        command, env = [sys.executable, "-c", code], environment | settings
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout

    folder = run()
    assert (Path(folder.strip()) / "config.json").is_file() and hub.requests
    hub.forget_requests()
    assert run(HF_HUB_OFFLINE="1") == folder
    assert hub.requests == []


def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 101)
    hub.cut_next("sending", method="GET", path_contains=SHA256)
    assert Path(hf_hub_download(NAME, "sub/model.safetensors")).read_bytes() == WEIGHTS
    assert [seen.status for seen in hub.asked("GET", SHA256)] == [200, 206]


@pytest.mark.parametrize(
    ("span", "status", "start", "end"),
    [
        ("bytes=0-6", 206, 0, 7),
        ("bytes=7-", 206, 7, len(WEIGHTS)),
        ("bytes=-11", 206, len(WEIGHTS) - 11, len(WEIGHTS)),
        ("bytes=3-999999", 206, 3, len(WEIGHTS)),
        (f"bytes={len(WEIGHTS)}-", 416, 0, 0),
    ],
)
def test_ranges(hub: LoopbackHub, span: str, status: int, start: int, end: int) -> None:
    address = hub.storage_address(hub.repositories["model", NAME], SHA256)
    assert get(address, Range=span)[:2] == (status, WEIGHTS[start:end])


def test_the_headers_of_small_and_large_files(hub: LoopbackHub) -> None:
    sha = hub.client().repo_info(NAME).sha
    status, _, headers = get(f"{hub.url}/{NAME}/resolve/main/sub/model.safetensors")
    assert status == 302 and headers["X-Linked-Etag"] == f'"{SHA256}"' and headers["X-Repo-Commit"] == sha
    assert int(headers["X-Linked-Size"]) == len(WEIGHTS)
    small = f"{hub.url}/{NAME}/resolve/main/config.json"
    status, body, headers = get(small)
    git_name = hashlib.sha1(b"blob 2\0{}").hexdigest()
    assert (status, body, headers["ETag"], headers["X-Repo-Commit"]) == (200, b"{}", f'"{git_name}"', sha)
    assert get(small, If_None_Match=headers["ETag"])[:2] == (304, b"")
    assert get(small, If_None_Match='"other"')[:2] == (200, b"{}")


def test_a_planned_failure_comes_and_goes(hub: LoopbackHub) -> None:
    hub.fail_next(503, times=2, path_contains="/api/models/")
    for _ in range(2):
        with pytest.raises(HfHubHTTPError) as caught:
            hub.client().repo_info(NAME)
        assert caught.value.response.status_code == 503
    assert hub.client().repo_info(NAME).id == NAME


# Pushing.


def test_one_commit_holds_small_and_large_files(hub: LoopbackHub) -> None:
    api = hub.client()
    assert api.create_repo("org/new", repo_type="dataset").repo_id == "org/new"
    info = api.create_commit(
        "org/new",
        [add("data/train.parquet", WEIGHTS), add("README.md", b"---\nlicense: mit\n---\n")],
        commit_message="Add data",
        repo_type="dataset",
    )
    assert hub.titles("dataset", "org/new") == ["Add data"]
    assert set(hub.files("dataset", "org/new")) == {"README.md", "data/train.parquet"}
    assert api.repo_info("org/new", repo_type="dataset").sha == info.oid
    assert api.repo_info("org/new", repo_type="dataset").card_data["license"] == "mit"
    assert api.list_repo_commits("org/new", repo_type="dataset")[0].title == "Add data"
    assert [seen.has_token for seen in hub.asked("PUT")] == [False]


def test_a_large_file_is_uploaded_once(hub: LoopbackHub) -> None:
    hub.client().create_commit(NAME, [add("copy.safetensors", WEIGHTS)], commit_message="Again")
    assert hub.asked("PUT") == [] and hub.files("model", NAME)["copy.safetensors"] == WEIGHTS


def test_what_has_not_changed_makes_no_commit(hub: LoopbackHub) -> None:
    operations = [add("sub/model.safetensors", WEIGHTS), add("config.json", b"{}")]
    info = hub.client().create_commit(NAME, operations, commit_message="Again")
    assert hub.titles("model", NAME) == ["Add files"] and info.oid == hub.client().repo_info(NAME).sha


def test_content_that_is_not_what_its_sha256_says_is_refused(hub: LoopbackHub) -> None:
    repository = hub.repositories["model", NAME]
    request = urllib.request.Request(hub.storage_address(repository, "0" * 64), WEIGHTS, method="PUT")
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        urllib.request.urlopen(request)
    caught.value.close()
    assert set(repository.large_files) == {SHA256}


def test_a_large_file_that_was_not_uploaded_cannot_be_committed(hub: LoopbackHub) -> None:
    operation = add("new.safetensors", b"never uploaded")
    operation._upload_mode, operation._is_uploaded = "lfs", True
    with pytest.raises(BadRequestError, match="does not exist"):
        hub.client().create_commit(NAME, [operation], commit_message="Add nothing")
    assert hub.titles("model", NAME) == ["Add files"]


def test_a_commit_on_a_parent_that_is_not_the_newest_is_refused(hub: LoopbackHub) -> None:
    api = hub.client()
    before = api.repo_info(NAME).sha
    api.create_commit(NAME, [add("first.txt", b"1")], commit_message="First", parent_commit=before)
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_commit(NAME, [add("second.txt", b"2")], commit_message="Second", parent_commit=before)
    assert caught.value.response.status_code == 412
    assert hub.titles("model", NAME) == ["Add files", "First"]


def test_files_are_deleted_and_copied_in_a_commit(hub: LoopbackHub) -> None:
    operations = [
        CommitOperationCopy("sub/model.safetensors", "large.safetensors"),
        CommitOperationCopy("config.json", "small.json"),
        CommitOperationDelete("sub/"),
        CommitOperationDelete("config.json"),
    ]
    hub.client().create_commit(NAME, operations, commit_message="Move")
    assert hub.files("model", NAME) == {"large.safetensors": WEIGHTS, "small.json": b"{}"}
    with pytest.raises(EntryNotFoundError):
        hub.client().delete_file("nothing.txt", NAME)
    hub.client().delete_repo(NAME)
    assert not hub.client().repo_exists(NAME)


def test_branches_and_tags(hub: LoopbackHub) -> None:
    api = hub.client()
    api.create_tag(NAME, tag="v1")
    api.create_branch(NAME, branch="feature/next")
    api.create_commit(NAME, [add("config.json", b"[]")], commit_message="Change", revision="feature/next")
    refs = api.list_repo_refs(NAME)
    assert {branch.name for branch in refs.branches} == {"main", "feature/next"}
    assert [tag.name for tag in refs.tags] == ["v1"]
    assert Path(hf_hub_download(NAME, "config.json", revision="feature/next")).read_text() == "[]"
    assert Path(hf_hub_download(NAME, "config.json", revision="v1")).read_text() == "{}"
    assert hub.titles("model", NAME) == ["Add files"]
    with pytest.raises(HfHubHTTPError, match="already exists"):
        api.create_branch(NAME, branch="feature/next")
    api.delete_branch(NAME, branch="feature/next")
    api.delete_tag(NAME, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.create_commit(NAME, [add("a.txt", b"a")], commit_message="Nowhere", revision="feature/next")


def test_a_card_that_names_a_local_path_is_refused(hub: LoopbackHub) -> None:
    card = b"---\nbase_model: /home/somebody/encoder\n---\n"
    with pytest.raises(ValueError, match="base_model"):
        hub.client().create_commit(NAME, [add("README.md", card)], commit_message="Add a card")


# What breaks off.


def test_an_upload_that_breaks_off_once_is_sent_again_by_the_client(hub: LoopbackHub) -> None:
    hub.cut_next("reading", method="PUT")
    hub.client().create_commit(NAME, [add("new.safetensors", WEIGHTS[::-1])], commit_message="Add")
    assert [seen.status for seen in hub.asked("PUT")] == [None, 200]
    assert hub.files("model", NAME)["new.safetensors"] == WEIGHTS[::-1]


@pytest.mark.parametrize(
    ("cut_at", "method", "place"),
    [("reading", "PUT", ""), ("reading", "POST", "/commit/"), ("working", "POST", "/commit/")],
)
def test_a_push_that_breaks_off_leaves_the_branch_as_it_was_and_can_be_repeated(
    hub: LoopbackHub, cut_at: str, method: str, place: str
) -> None:
    hub.cut_next(cut_at, times=6, method=method, path_contains=place)

    def push() -> None:
        operations = [add("new.safetensors", WEIGHTS[::-1]), add("config.json", b"[]")]
        hub.client().create_commit(NAME, operations, commit_message="Add")

    with pytest.raises(Exception, match=r"(?i)disconnected|reset|broken pipe|uploading"):
        push()
    assert hub.titles("model", NAME) == ["Add files"]
    assert hub.files("model", NAME) == {"config.json": b"{}", "sub/model.safetensors": WEIGHTS}
    hub.plan_no_failures()
    push()
    assert hub.titles("model", NAME) == ["Add files", "Add"]
    assert hub.files("model", NAME)["new.safetensors"] == WEIGHTS[::-1]


def test_a_commit_whose_answer_is_lost_is_whole_and_not_made_twice(hub: LoopbackHub) -> None:
    hub.cut_next("answering", path_contains="/commit/")
    with pytest.raises(Exception, match=r"(?i)disconnected|reset"):
        hub.client().create_commit(NAME, [add("config.json", b"[]"), add("a.txt", b"a")], commit_message="Change")
    assert hub.files("model", NAME)["config.json"] == b"[]"
    hub.client().create_commit(NAME, [add("config.json", b"[]"), add("a.txt", b"a")], commit_message="Change")
    assert hub.titles("model", NAME) == ["Add files", "Change"]
