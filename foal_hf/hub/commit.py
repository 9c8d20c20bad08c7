"""One folder, one commit: what every push to the Hub has in common, and what its errors mean."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id


# Folders that huggingface_hub keeps for itself: it refuses to commit them.
_NOT_PUSHED = {".git", ".cache"}
_MAIN = "main"


@dataclass(frozen=True)
class Push:
    """What a push did, or what a dry run would do.

    Args:
        repo_id (`str`): The repository, with its namespace; as it was asked for after a dry run.
        revision (`str`): The branch.
        files (`list` of `(str, int)`): Path in the repository and size in bytes of every file of the folder.
        commit_url (`str`, *optional*): Where the commit can be looked at; `None` where none was made.
        changed (`bool`, defaults to `False`): Whether a commit was made. `False` after a dry run, and where the
            branch held the same files already.
        dry_run (`bool`, defaults to `False`): Whether this was one.
    """

    repo_id: str
    revision: str
    files: list[tuple[str, int]] = field(default_factory=list)
    commit_url: str | None = None
    changed: bool = False
    dry_run: bool = False


def list_files(folder: str | os.PathLike[str]) -> list[tuple[str, int]]:
    """The files that a push of a folder sends.

    Args:
        folder (`str` or `os.PathLike`): Everything in it counts, at any depth, except `.git` and `.cache`.

    Returns:
        `list` of `(str, int)`: Path relative to the folder, with slashes, and size in bytes; in the order of the paths.

    Raises:
        NotADirectoryError: If there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"There is no folder {os.fspath(folder)!r}.")
    paths = (path for path in root.rglob("*") if path.is_file())
    files = ((path.relative_to(root), path.stat().st_size) for path in paths)
    return sorted((path.as_posix(), size) for path, size in files if not _NOT_PUSHED & set(path.parts))


def commit_folder(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    repo_type: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    dry_run: bool = False,
    token: str | bool | None = None,
    message: str,
    delete_patterns: Sequence[str] = (),
) -> Push:
    """Bring a branch of a repository on the Hub to the files of a folder, in one commit.

    Large files are uploaded before anything else happens. Only then a missing branch is created and the commit made,
    which the Hub takes as a whole or not at all. A push that breaks off can so be repeated: it leaves the branch as it
    was, and what has been uploaded is not uploaded again. The one thing that may stay behind is a new, empty
    repository.

    Args:
        folder (`str` or `os.PathLike`): Its files replace those of the same path; other files of the branch stay.
        repo_id (`str`): `organisation/name`, or `name` for a repository of the token's owner. Created where needed.
        repo_type (`str`, defaults to `"model"`): Or `"dataset"`, `"space"`.
        private (`bool`, *optional*): Visibility of a repository that is created; the Hub's default for the owner
            where it is not given. `True` also refuses a repository that is there already and public.
        revision (`str`, *optional*): The branch, `main` by default. Branched off `main` where it does not exist.
        dry_run (`bool`, defaults to `False`): List the files, and use neither network nor token.
        token (`str` or `bool`, *optional*): Of the Hub; the stored one by default.
        message (`str`): Title of the commit.
        delete_patterns (`Sequence[str]`, defaults to none): Shell patterns for whole paths. Files of the branch that
            match one and are not in the folder are deleted in the same commit.

    Returns:
        [`Push`]: Without a commit where the branch held the same files already.

    Raises:
        ValueError: If the folder is empty, or `repo_id` is no name of a repository.
        PermissionError: If the token is missing, unknown or not allowed to write there, or the repository is public
            where a private one was asked for.
        RuntimeError: If the Hub cannot be reached, refuses, or the branch changed in the meantime.

    Example:

    ```python
    >>> commit_folder("checkpoint", "org/foal-net", message="Add a checkpoint", dry_run=True).files
    [('README.md', 2113), ('config.json', 5270), ('model.safetensors', 1632016)]
    ```
    """
    validate_repo_id(repo_id)
    files, branch = list_files(folder), revision or _MAIN
    if not files:
        raise ValueError(f"Nothing to push: the folder {os.fspath(folder)!r} holds no files.")
    if dry_run:
        return Push(repo_id, branch, files, dry_run=True)

    api = HfApi(token=token)
    additions = [CommitOperationAdd(path, Path(folder, path)) for path, _ in files]
    with explained_hub_errors(repo_id):
        # The Hub makes no Space without knowing what runs it; the card of the folder has the last word.
        sdk = "gradio" if repo_type == "space" else None
        repo_id = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True, space_sdk=sdk).repo_id
        is_new_branch = not _has_branch(api, repo_id, repo_type, branch)
        starting_point = _MAIN if is_new_branch else branch
        before = api.repo_info(repo_id, repo_type=repo_type, revision=starting_point)
        if private and not before.private:
            raise PermissionError(
                f"{repo_id} is public, and a private repository was asked for. Make it private in its settings on the "
                "Hub, or push to another name."
            )
        stale: set[str] = set()
        if delete_patterns:
            present = api.list_repo_files(repo_id, repo_type=repo_type, revision=before.sha)
            stale = {path for path in present if any(fnmatchcase(path, pattern) for pattern in delete_patterns)}
            stale -= {path for path, _ in files}
        api.preupload_lfs_files(repo_id, additions, repo_type=repo_type, revision=starting_point)
        if is_new_branch:
            api.create_branch(repo_id, branch=branch, repo_type=repo_type, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            [*additions, *(CommitOperationDelete(path, is_folder=False) for path in sorted(stale))],
            commit_message=message,
            repo_type=repo_type,
            revision=branch,
            # What is stale was decided on this commit: if somebody else pushes meanwhile, the Hub refuses.
            parent_commit=before.sha,
        )
    changed = commit.oid != before.sha
    return Push(repo_id, branch, files, commit_url=commit.commit_url if changed else None, changed=changed)


@contextmanager
def explained_hub_errors(repo_id: str) -> Iterator[None]:
    """Turn what huggingface_hub raises inside the block into one sentence with the way out, and never the token.

    Args:
        repo_id (`str`): The repository that the block is about.

    Raises:
        PermissionError: If the token is missing, unknown, or lacks a right.
        RuntimeError: If the Hub cannot be reached or refuses for another reason.
    """
    try:
        yield
    except (OfflineModeIsEnabled, LocalTokenNotFoundError, HTTPError) as error:
        raise _explained(error, repo_id) from error
    except RuntimeError as error:
        # An upload in a thread arrives wrapped; its reason is the cause.
        if isinstance(error.__cause__, HTTPError):
            raise _explained(error.__cause__, repo_id) from error
        raise


def _has_branch(api: HfApi, repo_id: str, repo_type: str, branch: str) -> bool:
    if branch == _MAIN:
        return True
    refs = api.list_repo_refs(repo_id, repo_type=repo_type)
    if any(tag.name == branch for tag in refs.tags):
        raise ValueError(f"{branch!r} is a tag of {repo_id}, and a commit needs a branch: give another `revision`.")
    return any(present.name == branch for present in refs.branches)


def _explained(error: Exception, repo_id: str) -> Exception:
    """The error to raise instead: what the Hub said of this repository, and what to do."""
    if isinstance(error, OfflineModeIsEnabled):
        return RuntimeError(f"Cannot push to {repo_id}: offline mode is on. Unset HF_HUB_OFFLINE and push again.")
    if isinstance(error, LocalTokenNotFoundError):
        return PermissionError(f"Cannot push to {repo_id}: no token is stored. Run `hf auth login`, or set HF_TOKEN.")
    if not isinstance(error, HfHubHTTPError):
        return RuntimeError(
            f"Cannot push to {repo_id}: the connection to the Hub failed ({type(error).__name__}). "
            "Push again: a commit is stored whole or not at all, and nothing is sent twice."
        )
    status, said = error.response.status_code, error.server_message or "no reason given"
    if status == 401:
        return PermissionError(
            f"Cannot push to {repo_id}: the Hub does not know who you are ({said}). "
            "Run `hf auth login`, or set HF_TOKEN to a token with write access."
        )
    if status == 403:
        return PermissionError(
            f"Cannot push to {repo_id}: the token may not write there ({said}). "
            "Log in with `hf auth login` and a token with write access to it."
        )
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return RuntimeError(
            f"Cannot push to {repo_id}: the Hub has no such place, or the token may not see it ({said}). "
            "Check organisation and name, and with `hf auth whoami` who you are."
        )
    if status == 412:
        return RuntimeError(
            f"Cannot push to {repo_id}: somebody else pushed to it in the meantime. Nothing was changed; push again."
        )
    if status == 429 or status >= 500:
        return RuntimeError(
            f"Cannot push to {repo_id}: the Hub is not available (status {status}, {said}). "
            "Nothing was changed; push again later."
        )
    return RuntimeError(f"Cannot push to {repo_id}: the Hub refuses (status {status}, {said}).")
