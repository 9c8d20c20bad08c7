"""A folder becomes one commit, or nothing; and what goes wrong is said in a sentence."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants
from loopback_hub import READ_TOKEN, STRANGERS_TOKEN, WRITE_TOKEN, LoopbackHub

from foal_hf.hub.commit import Push, commit_folder, list_files


NAME = "org/foal-net"
WEIGHTS = bytes(range(251)) * 7
FILES = [("README.md", 15), ("config.json", 2), ("sub/model.safetensors", len(WEIGHTS))]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.serve_this_process(monkeypatch, tmp_path / "home")
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("---\nx: 1\n---\nHi")
    (folder / "sub" / "model.safetensors").write_bytes(WEIGHTS)
    return folder


def push(folder: Path, **options: object) -> Push:
    return commit_folder(folder, NAME, message="Add a checkpoint", **options)


def test_files_are_listed_at_any_depth_without_those_that_git_and_the_client_keep(folder: Path) -> None:
    for name in (".git", ".cache"):
        (folder / name).mkdir()
        (folder / name / "state").write_text("kept")
    assert list_files(folder) == FILES
    with pytest.raises(NotADirectoryError, match="nowhere"):
        list_files(folder / "nowhere")


def test_one_commit_holds_every_file_of_the_folder(hub: LoopbackHub, folder: Path) -> None:
    result = push(folder)
    sha = hub.client().repo_info(NAME).sha
    assert result == Push(NAME, "main", FILES, commit_url=f"{hub.url}/{NAME}/commit/{sha}", changed=True)
    assert hub.titles("model", NAME) == ["Add a checkpoint"]
    assert hub.files("model", NAME) == {path: (folder / path).read_bytes() for path, _ in FILES}
    assert len(hub.asked("POST", "/commit/")) == 1


def test_a_name_without_namespace_is_the_users_own(hub: LoopbackHub, folder: Path) -> None:
    assert commit_folder(folder, "mine", repo_type="dataset", message="Add").repo_id == "tester/mine"
    assert set(hub.files("dataset", "tester/mine")) == {path for path, _ in FILES}


def test_a_space_is_created_and_pushed_to_again(hub: LoopbackHub, folder: Path) -> None:
    assert commit_folder(folder, "org/page", repo_type="space", message="Add").changed
    assert not commit_folder(folder, "org/page", repo_type="space", message="Add").changed
    assert set(hub.files("space", "org/page")) == {path for path, _ in FILES}


def test_a_dry_run_asks_nobody_and_lists_the_files(hub: LoopbackHub, folder: Path) -> None:
    assert push(folder, dry_run=True, revision="v1") == Push(NAME, "v1", FILES, dry_run=True)
    assert hub.requests == []


def test_a_push_that_changes_nothing_makes_no_commit(hub: LoopbackHub, folder: Path) -> None:
    push(folder)
    again = push(folder)
    assert not again.changed and again.commit_url is None and again.files == FILES
    assert hub.titles("model", NAME) == ["Add a checkpoint"]


def test_a_second_push_replaces_the_card_and_deletes_what_is_stale(hub: LoopbackHub, folder: Path) -> None:
    for name in ("old_foal_net.py", "deep/old_foal_net.py", "notes.txt", "config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("old")
    push(folder)
    for name in ("old_foal_net.py", "deep/old_foal_net.py", "notes.txt"):
        (folder / name).unlink()
    (folder / "README.md").write_text("New")
    assert push(folder, delete_patterns=("*_foal_net.py", "config.json")).changed
    files = hub.files("model", NAME)
    assert set(files) == {"README.md", "config.json", "sub/model.safetensors", "notes.txt"}
    assert files["README.md"] == b"New"
    assert len(hub.titles("model", NAME)) == 2


def test_a_missing_branch_is_made_and_main_stays(hub: LoopbackHub, folder: Path) -> None:
    push(folder)
    (folder / "config.json").write_text("[]")
    result = push(folder, revision="v2")
    assert result.revision == "v2" and result.changed
    assert hub.files("model", NAME)["config.json"] == b"{}"
    assert hub.files("model", NAME, "v2")["config.json"] == b"[]"
    (folder / "config.json").write_text("7")
    push(folder, revision="v2")
    assert hub.files("model", NAME, "v2")["config.json"] == b"7"
    assert len(hub.titles("model", NAME, "v2")) == 3


def test_a_tag_is_no_branch(hub: LoopbackHub, folder: Path) -> None:
    push(folder)
    hub.client().create_tag(NAME, tag="v1")
    with pytest.raises(ValueError, match="'v1' is a tag"):
        push(folder, revision="v1")


@pytest.mark.parametrize("private", [True, False])
def test_a_new_repository_is_private_as_asked(hub: LoopbackHub, folder: Path, private: bool) -> None:
    push(folder, private=private)
    assert hub.repositories["model", NAME].private == private


def test_what_shall_be_private_does_not_go_to_a_public_repository(hub: LoopbackHub, folder: Path) -> None:
    hub.create("model", NAME)
    with pytest.raises(PermissionError, match="is public"):
        push(folder, private=True)
    assert hub.files("model", NAME) == {} and hub.asked("PUT") == []
    hub.repositories["model", NAME].private = True
    assert push(folder, private=True).changed


@pytest.mark.parametrize(
    ("token", "way_out"),
    [
        (None, "hf auth login"),
        ("hf_made_up", "hf auth login"),
        (READ_TOKEN, "write access"),
        (STRANGERS_TOKEN, "write access"),
    ],
)
def test_a_token_that_is_missing_or_too_weak_is_said_and_not_shown(
    hub: LoopbackHub,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    token: str | None,
    way_out: str,
) -> None:
    hub.create("model", NAME)
    monkeypatch.delenv("HF_TOKEN")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(PermissionError, match=way_out) as caught:
        push(folder, token=token)
    assert NAME in str(caught.value)
    assert "hf_" not in str(caught.value) + caplog.text
    assert hub.files("model", NAME) == {}


def test_a_missing_stored_token_is_said(hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PermissionError, match="hf auth login"):
        push(folder, token=True)


def test_the_token_is_in_no_log_of_a_push_that_works(
    hub: LoopbackHub, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert WRITE_TOKEN not in repr(push(folder, token=WRITE_TOKEN)) + caplog.text


def test_offline_mode_is_said(hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RuntimeError, match="Unset HF_HUB_OFFLINE"):
        push(folder)
    assert hub.requests == []


def test_a_hub_that_is_not_there_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackHub() as hub:
        hub.serve_this_process(monkeypatch, tmp_path / "home")
    with pytest.raises(RuntimeError, match="connection to the Hub failed"):
        push(folder)


@pytest.mark.parametrize("place", ["/api/repos/create", "/preupload/", "/info/lfs/", "/commit/"])
def test_a_hub_that_is_not_available_is_said_and_the_push_can_be_repeated(
    hub: LoopbackHub, folder: Path, place: str
) -> None:
    hub.create("model", NAME)
    hub.fail_next(503, times=6, path_contains=place)
    with pytest.raises(RuntimeError, match="not available") as caught:
        push(folder)
    assert "503" in str(caught.value)
    assert hub.titles("model", NAME) == []
    hub.plan_no_failures()
    assert push(folder).changed
    assert hub.titles("model", NAME) == ["Add a checkpoint"]


@pytest.mark.parametrize(
    ("cut_at", "method", "place"),
    [("reading", "PUT", ""), ("reading", "POST", "/commit/"), ("working", "POST", "/commit/")],
)
def test_a_push_that_breaks_off_publishes_nothing_and_can_be_repeated(
    hub: LoopbackHub, folder: Path, cut_at: str, method: str, place: str
) -> None:
    hub.cut_next(cut_at, times=6, method=method, path_contains=place)
    with pytest.raises(RuntimeError, match="Push again"):
        push(folder)
    assert hub.files("model", NAME) == {}
    hub.plan_no_failures()
    assert push(folder).changed
    assert set(hub.files("model", NAME)) == {path for path, _ in FILES}
    assert [seen.status for seen in hub.asked("PUT")].count(200) == 1


def test_a_push_whose_answer_is_lost_is_found_to_be_there(hub: LoopbackHub, folder: Path) -> None:
    hub.cut_next("answering", path_contains="/commit/")
    with pytest.raises(RuntimeError, match="Push again"):
        push(folder)
    assert not push(folder).changed
    assert hub.titles("model", NAME) == ["Add a checkpoint"]


def test_an_upload_that_fails_leaves_no_new_branch(hub: LoopbackHub, folder: Path) -> None:
    hub.cut_next("reading", times=6, method="PUT")
    with pytest.raises(RuntimeError):
        push(folder, revision="v2")
    assert set(hub.repositories["model", NAME].branches) == {"main"}


def test_what_somebody_else_pushes_meanwhile_is_not_overwritten(
    hub: LoopbackHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = HfApi.preupload_lfs_files

    def be_overtaken(api: HfApi, *arguments: object, **options: object) -> None:
        upload(api, *arguments, **options)
        if not hub.titles("model", NAME):
            hub.repositories["model", NAME].commit("main", {"config.json": b"theirs"}, "Theirs")

    monkeypatch.setattr(HfApi, "preupload_lfs_files", be_overtaken)
    with pytest.raises(RuntimeError, match="somebody else pushed"):
        push(folder)
    assert hub.files("model", NAME) == {"config.json": b"theirs"}
    assert push(folder).changed


def test_an_empty_folder_and_a_name_that_is_none_are_refused(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no files"):
        push(tmp_path / "empty")
    with pytest.raises(ValueError, match="a/b/c"):
        commit_folder(folder, "a/b/c", message="Add", dry_run=True)
    assert hub.requests == []
