"""One folder, one commit: what every push to the Hub shares, and its errors in plain words."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id


# huggingface_hub refuses to commit these folders.
_NOT_PUSHED = {".git", ".cache"}
_MAIN = "main"


@dataclass(frozen=True)
class Push:
    """What a push did, or what a dry run would do.

    Args:
        repo_id (`str`): The repository, with its namespace; as given after a dry run.
        revision (`str`): The branch.
        files (`list` of `(str, int)`): Path in the repository and size in bytes of every file of the folder.
        commit_url (`str`, *optional*): Address of the commit; `None` if there is none.
        changed (`bool`, defaults to `False`): Whether a commit was made. `False` after a dry run, and if the
            branch had the same files already.
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
        folder (`str` or `os.PathLike`): All of its files at any depth, except in `.git` and `.cache`.

    Returns:
        `list` of `(str, int)`: Path relative to the folder, with slashes, and size in bytes, sorted by path.

    Raises:
        NotADirectoryError: If there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"There is no folder {os.fspath(folder)!r}; expected the folder to push.")
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
    """Push the files of a folder to a branch of a repository on the Hub, in one commit.

    Large files are uploaded first. Then a missing branch is created, and the commit is made as a whole or not at all.
    So an interrupted push leaves the branch unchanged and can be repeated; files are not uploaded twice. It may leave a
    new, empty repository.

    Args:
        folder (`str` or `os.PathLike`): Its files replace those of the same path; other files of the branch stay.
        repo_id (`str`): `organisation/name`, or `name` for a repository of the token's owner. Created if missing.
        repo_type (`str`, defaults to `"model"`): Or `"dataset"`, `"space"`.
        private (`bool`, *optional*): Visibility of a new repository; the owner's default on the Hub if not given.
            `True` also refuses an existing public repository.
        revision (`str`, *optional*): The branch, `main` by default. Created from `main` if missing.
        dry_run (`bool`, defaults to `False`): List the files without any request to the Hub.
        token (`str` or `bool`, *optional*): Of the Hub; the stored one by default.
        message (`str`): Title of the commit.
        delete_patterns (`Sequence[str]`, defaults to none): Shell patterns for whole paths. Files of the branch that
            match one and are not in the folder are deleted in the same commit.

    Returns:
        [`Push`]: Without a commit if the branch had the same files already.

    Raises:
        ValueError: If the folder is empty, or `repo_id` is not a valid name.
        PermissionError: If the token is missing, unknown or not allowed to write there, or the repository is public
            and `private=True`.
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
        raise ValueError(f"Nothing to push: the folder {os.fspath(folder)!r} has no files.")
    if dry_run:
        return Push(repo_id, branch, files, dry_run=True)

    commit, changed = upload_folder(
        HfApi(token=token),
        folder,
        repo_id,
        repo_type=repo_type,
        private=private,
        revision=branch,
        message=message,
        delete_patterns=delete_patterns,
    )
    url = commit.commit_url if changed else None
    return Push(commit.repo_url.repo_id, branch, files, commit_url=url, changed=changed)


def upload_folder(
    api: HfApi,
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    repo_type: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    message: str,
    description: str | None = None,
    create_pr: bool = False,
    delete_patterns: Sequence[str] = (),
) -> tuple[CommitInfo, bool]:
    """Make the commit of [`commit_folder`], or a pull request of it.

    Args:
        api (`HfApi`): With the token to use.
        description (`str`, *optional*): Body of the commit message.
        create_pr (`bool`, defaults to `False`): Open a pull request instead of changing the branch.
        folder, repo_id, repo_type, private, revision, message, delete_patterns: As in [`commit_folder`].

    Returns:
        `tuple[CommitInfo, bool]`: The commit, and whether it is a new one: it is the last one of the branch if the
        branch has the same files already.
    """
    files, branch = [path for path, _ in list_files(folder)], revision or _MAIN
    additions = [CommitOperationAdd(path, Path(folder, path)) for path in files]
    with explained_hub_errors(repo_id):
        # The Hub makes no Space without an SDK; the card in the folder can name another one.
        sdk = "gradio" if repo_type == "space" else None
        repo_id = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True, space_sdk=sdk).repo_id
        is_new_branch = not _has_branch(api, repo_id, repo_type, branch)
        starting_point = _MAIN if is_new_branch else branch
        before = api.repo_info(repo_id, repo_type=repo_type, revision=starting_point)
        if private and not before.private:
            raise PermissionError(
                f"{repo_id} is public, and `private=True` was given. Make it private in its settings on the Hub, or "
                "push to another repository."
            )
        stale: set[str] = set()
        if delete_patterns:
            present = api.list_repo_files(repo_id, repo_type=repo_type, revision=before.sha)
            stale = {path for path in present if any(fnmatchcase(path, pattern) for pattern in delete_patterns)}
            stale -= set(files)
        api.preupload_lfs_files(repo_id, additions, repo_type=repo_type, revision=starting_point, create_pr=create_pr)
        if is_new_branch:
            api.create_branch(repo_id, branch=branch, repo_type=repo_type, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            [*additions, *(CommitOperationDelete(path, is_folder=False) for path in sorted(stale))],
            commit_message=message,
            commit_description=description,
            repo_type=repo_type,
            revision=branch,
            create_pr=create_pr,
            # Stale files were determined at this commit: after a push in the meantime the Hub refuses.
            parent_commit=before.sha,
        )
    return commit, commit.oid != before.sha


@contextmanager
def explained_hub_errors(repo_id: str) -> Iterator[None]:
    """Turn errors of huggingface_hub inside the block into one sentence with the fix, and without the token.

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
    if branch == _MAIN or branch.startswith("refs/"):
        return True
    refs = api.list_repo_refs(repo_id, repo_type=repo_type)
    if any(tag.name == branch for tag in refs.tags):
        raise ValueError(f"{branch!r} is a tag of {repo_id}, and a commit needs a branch: give another `revision`.")
    return any(present.name == branch for present in refs.branches)


def _explained(error: Exception, repo_id: str) -> Exception:
    """The error to raise instead: the Hub's answer, and how to fix it."""
    if isinstance(error, OfflineModeIsEnabled):
        return RuntimeError(f"Cannot push to {repo_id}: offline mode is on. Unset HF_HUB_OFFLINE and push again.")
    if isinstance(error, LocalTokenNotFoundError):
        return PermissionError(f"Cannot push to {repo_id}: no token is stored. Run `hf auth login`, or set HF_TOKEN.")
    if not isinstance(error, HfHubHTTPError):
        return RuntimeError(
            f"Cannot push to {repo_id}: the connection to the Hub failed ({type(error).__name__}). "
            "Push again: a commit is stored completely or not at all, and nothing is uploaded twice."
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
            f"Cannot push to {repo_id}: the Hub has no such repository, or the token may not read it ({said}). "
            "Check organisation and name, and your account with `hf auth whoami`."
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
