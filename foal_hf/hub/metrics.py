"""Metrics to the Hub, as the Space that `evaluate.load` takes them from: scripts, metric card and the page's code."""

import os
import shutil
import tempfile
from pathlib import Path

from ..metrics import METRIC_FOLDER, metric_path
from .commit import Push, commit_folder


def push_metric(
    name: str,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    dry_run: bool = False,
    token: str | bool | None = None,
) -> Push:
    """Publish the metrics as a Space, in one commit.

    Everybody can then load `evaluate.load(repo_id)`, or another metric of the Space by its config:
    `evaluate.load(repo_id, "macro_f1")`. The Space shows a page to try them.

    Args:
        name (`str`): One of [`~foal_hf.metrics.METRIC_MODULES`], which is what `evaluate.load(repo_id)` gives; or
            `"emotion_classification"`, where the config is always named.
        repo_id (`str`): `organisation/name` of the Space. `evaluate` loads the script of that name, so it must be
            `name`. Created if missing.
        private (`bool`, *optional*): Visibility of a Space that is created; the Hub's default for the owner.
        revision (`str`, *optional*): The branch, `main` by default.
        dry_run (`bool`, defaults to `False`): List the files with their sizes, without any request to the Hub.
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
    ['README.md', 'app.py', 'emotion_classification.py', 'macro_f1.py', 'requirements.txt']
    ```
    """
    source = Path(metric_path())
    scripts = {f"{METRIC_FOLDER}.py"} | ({Path(metric_path(name)).name} if name != METRIC_FOLDER else set())
    if repo_id.split("/")[-1] != name:
        raise ValueError(
            f"`evaluate.load({repo_id!r})` loads a script of that name. Name the Space like its metric: "
            f"{os.path.join(os.path.dirname(repo_id), name)!r}."
        )
    with tempfile.TemporaryDirectory() as folder:
        for file in ("README.md", "app.py", "requirements.txt", *scripts):
            shutil.copyfile(source / file, Path(folder, file))
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
