"""Loading script and dataset card of a corpus to the Hub; its recordings only if the licence allows it."""

import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, metadata_load
from huggingface_hub.errors import RepositoryNotFoundError

from ..corpora.scripts import find_script, script_files
from .commit import Push, commit_folder, explained_hub_errors


CARD_NAME = "README.md"
# Columns that make a row a segment of its recording. Each row would embed the whole recording.
CUT_COLUMNS = ("start_seconds", "end_seconds", "crop_box")
_MEDIA_COLUMNS = ("audio", "video")
_SHARD_BYTES = 250_000_000  # of recordings in one Parquet file, which is in memory at once


def push_dataset(
    name: str,
    repo_id: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    with_data: bool = False,
    private: bool | None = None,
    revision: str | None = None,
    dry_run: bool = False,
    token: str | bool | None = None,
    **options: Any,
) -> Push:
    """Publish the loading script and the dataset card of a corpus, in one commit.

    The script reads the user's own copy of the corpus; no recording is uploaded. With `with_data=True` the rows are
    pushed as Parquet files with embedded audio and video, so that `datasets.load_dataset(repo_id)` needs nothing else.
    This requires a private repository and a corpus whose card has `redistribution: true` in its header, which no
    corpus with an individual licence agreement has.

    Args:
        name (`str`): A corpus with a loading script, such as `"ravdess"`.
        repo_id (`str`): `organisation/name` of the dataset repository. Created if missing.
        data_dir (`str` or `os.PathLike`, *optional*): Folder of the corpus; only with `with_data`.
        with_data (`bool`, defaults to `False`): Also push the recordings.
        private (`bool`, *optional*): Visibility of a new repository. With data it is always private.
        revision (`str`, *optional*): The branch, `main` by default.
        dry_run (`bool`, defaults to `False`): List the files with their sizes, without any request to the Hub. With
            data they are written to a temporary folder to measure the sizes.
        token (`str` or `bool`, *optional*): Of the Hub; the stored one by default.
        **options: Of the corpus, as [`~foal_hf.corpora.load_corpus`] takes them; only with `with_data`.

    Returns:
        [`~foal_hf.hub.commit.Push`]: Files with their sizes in bytes, and the address of the commit.

    Raises:
        ValueError: If there is no such corpus, arguments contradict each other, or rows are segments of a longer
            recording.
        FileNotFoundError: If the corpus has no card.
        PermissionError: If the licence does not allow redistribution, the repository is public, or the token may not
            write to it.
        RuntimeError: If the Hub cannot be reached or refuses.

    Example:

    ```python
    >>> [path for path, _ in push_dataset("ravdess", "org/ravdess-script", dry_run=True).files]
    ['README.md', 'build_ravdess.py', 'corpus_builder.py']
    ```
    """
    script = find_script(name)
    card = script.with_name(CARD_NAME)
    if not card.is_file():
        raise FileNotFoundError(f"The corpus {name!r} has no dataset card {CARD_NAME} beside {script.name}. Write one.")
    if repo_id.split("/")[-1] == script.stem:
        raise ValueError(
            f"A repository must not have the name of its script: `datasets` refuses to load {repo_id!r} with a "
            f"{script.name} in it. Use another name, such as {repo_id.removesuffix(script.stem) + name!r}."
        )
    if with_data:
        _check_redistribution(name, metadata_load(card) or {})
        private = _check_private(repo_id, private, token, dry_run=dry_run)
    elif data_dir is not None or options:
        given = sorted(options) + (["data_dir"] if data_dir is not None else [])
        raise ValueError(f"{', '.join(given)}: only valid with `with_data=True`. Without it no recording is read.")

    with tempfile.TemporaryDirectory() as folder:
        for file in (*script_files(name), card):
            shutil.copyfile(file, Path(folder, file.name))
        if with_data:
            _write_data(name, data_dir, Path(folder, "data"), options)
        return commit_folder(
            folder,
            repo_id,
            repo_type="dataset",
            private=private,
            revision=revision,
            dry_run=dry_run,
            token=token,
            message=f"Add the {name} corpus" if with_data else f"Add the loading script of {name}",
            delete_patterns=("data/*.parquet",) if with_data else (),
        )


def _check_redistribution(name: str, card: Mapping[str, Any]) -> None:
    """Raise PermissionError unless the card's header allows redistribution."""
    if card.get("redistribution") is True:
        return
    licence = card.get("license_name") or card.get("license") or "not named in its card"
    reason = f"its licence ({licence}) does not allow redistribution"
    if card.get("redistribution") is not False:
        reason = f"its card does not have `redistribution: true`, so its licence ({licence}) is assumed to forbid it"
    raise PermissionError(
        f"The recordings of {name} are not pushed: {card.get('redistribution_reason') or reason}. Push only the "
        "script and the card, without data: users build the dataset from their own copy of the corpus."
    )


def _check_private(repo_id: str, private: bool | None, token: str | bool | None, *, dry_run: bool) -> bool:
    """Check before gigabytes are written what `commit_folder` checks again; returns True."""
    if private is False:
        raise ValueError("Recordings go to private repositories only: `with_data=True` excludes `private=False`.")
    if not dry_run:
        with explained_hub_errors(repo_id):
            try:
                is_public = not HfApi(token=token).repo_info(repo_id, repo_type="dataset").private
            except RepositoryNotFoundError as error:
                if error.response.status_code == 401:
                    raise
                is_public = False
        if is_public:
            raise PermissionError(
                f"Recordings are pushed to private repositories only, and {repo_id} is public. Make it private in its "
                "settings on the Hub, or push to another repository."
            )
    return True


def _write_data(name: str, data_dir: str | os.PathLike[str] | None, folder: Path, options: Mapping[str, Any]) -> None:
    """Write a corpus as Parquet files with embedded recordings, `<split>-00000-of-00007.parquet`."""
    from ..corpora import load_corpus

    splits = load_corpus(name, data_dir, split=None, **options)
    for rows in splits.values():
        _check_uncut(name, rows)
    folder.mkdir()
    for split, rows in splits.items():
        num_shards = max(1, math.ceil(_media_bytes(rows) / _SHARD_BYTES))
        for index in range(num_shards):
            path = folder / f"{split}-{index:05d}-of-{num_shards:05d}.parquet"
            _write_shard(rows.shard(num_shards, index, contiguous=True), path)


def _check_uncut(name: str, rows: Any) -> None:
    """Raise ValueError if a row is a segment of its recording."""
    table = rows.select_columns([column for column in CUT_COLUMNS if column in rows.features]).with_format("arrow")[:]
    used = [column for column in table.column_names if table[column].null_count < len(table)]
    if used:
        raise ValueError(
            f"Rows of {name} are segments of longer recordings ({', '.join(used)} are set), and every row would embed "
            "the whole recording. Cut the clips first: `materialize=True, materialize_dir=FOLDER` writes one file per "
            "clip."
        )


def _media_bytes(rows: Any) -> int:
    """Size of the recordings of all rows; shared ones count repeatedly."""
    from ..corpora.schema import undecoded

    media = [column for column in _MEDIA_COLUMNS if column in rows.features]
    total = 0
    for row in undecoded(rows.select_columns(media)):
        for file in filter(None, row.values()):
            total += len(file["bytes"]) if file["bytes"] is not None else os.path.getsize(file["path"])
    return total


def _write_shard(rows: Any, path: Path) -> None:
    from datasets import Dataset
    from datasets.table import InMemoryTable, embed_table_storage

    # Embeds the content of each file, and keeps only the name of its path.
    table = embed_table_storage(rows.with_format("arrow")[:])
    Dataset(InMemoryTable(table)).to_parquet(path)
