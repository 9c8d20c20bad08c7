"""A metric to the Hub, as the Space that `evaluate.load` takes it from: script, metric card and the page's code."""

import os
import shutil
import tempfile
from pathlib import Path

from ..metrics import metric_path
from .commit import Push, commit_folder


_PAGE = ("app.py", "requirements.txt")  # the same for every metric


def push_metric(
    name: str,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    dry_run: bool = False,
    token: str | bool | None = None,
) -> Push:
    """Publish a metric as a Space, in one commit.

    Everybody then has it as `evaluate.load(repo_id)`, and the Space shows a page to try it out.

    Args:
        name (`str`): Of one of [`~foal_hf.metrics.METRIC_MODULES`], such as `"unweighted_accuracy"`.
        repo_id (`str`): `organisation/name` of the Space. `evaluate` looks for a script of that name in it, so the name
            has to be that of the metric. Created where needed.
        private (`bool`, *optional*): Visibility of a Space that is created; the Hub's default for the owner.
        revision (`str`, *optional*): The branch, `main` by default.
        dry_run (`bool`, defaults to `False`): List the files with their sizes, without a word to the Hub.
        token (`str` or `bool`, *optional*): Of the Hub; the stored one by default.

    Returns:
        [`~foal_hf.hub.commit.Push`]: Files with their sizes in bytes, and where the commit is.

    Raises:
        ValueError: If there is no such metric, or the Space has another name.
        PermissionError: If the token may not write there.
        RuntimeError: If the Hub cannot be reached or refuses.

    Example:

    ```python
    >>> [path for path, _ in push_metric("macro_f1", "org/macro_f1", dry_run=True).files]
    ['README.md', 'app.py', 'macro_f1.py', 'requirements.txt']
    ```
    """
    source = Path(metric_path(name))
    if repo_id.split("/")[-1] != name:
        raise ValueError(
            f"`evaluate.load({repo_id!r})` would look for a script of that name. Name the Space like its metric, "
            f"{os.path.join(os.path.dirname(repo_id), name)!r}."
        )
    with tempfile.TemporaryDirectory() as folder:
        for file in (source / f"{name}.py", source / "README.md", *(source.parent / "space" / page for page in _PAGE)):
            shutil.copyfile(file, Path(folder, file.name))
        return commit_folder(
            folder,
            repo_id,
            repo_type="space",
            private=private,
            revision=revision,
            dry_run=dry_run,
            token=token,
            message=f"Add the metric {name}",
        )


__all__ = ["push_metric"]
