"""What a run notes of itself: which one it is, the recipe and the commit. Notes stay on this machine."""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..results.publishable import find_local_path, public_name
from .recipe import Recipe


RUN_NAME = "run.json"
PREDICTIONS_NAME = "predictions.json"
# What a run may be resumed with otherwise, since it changes no number.
_FREE_SETTINGS = (
    "dataloader_num_workers",
    "dataloader_persistent_workers",
    "dataloader_pin_memory",
    "dataloader_prefetch_factor",
    "disable_tqdm",
    "log_level",
    "report_to",
    "run_name",
    "use_cpu",
)


def describe_run(recipe: Recipe, parts: Mapping[str, Sequence[str]], **facts: Any) -> dict[str, Any]:
    """What makes a run the one that it is.

    Args:
        recipe ([`Recipe`]): With all that was set.
        parts (`Mapping[str, Sequence[str]]`): Ids of the clips of each part.
        **facts: More of it, plain values.
    """
    settings = recipe.as_dict()
    training = {name: value for name, value in recipe.training.items() if name not in _FREE_SETTINGS}
    settings = {**settings, "training": training, "description": None}
    clips = {name: f"{len(ids)}, {_digest(sorted(ids))}" for name, ids in parts.items()}
    return json.loads(json.dumps({**facts, "clips": clips, **settings}, default=str))


def claim(folder: Path, run: Mapping[str, Any], *, write: bool = True) -> None:
    """Make sure that a folder belongs to a run, which may go on there.

    Args:
        folder (`pathlib.Path`): Made where it does not exist.
        run (`Mapping[str, Any]`): From [`describe_run`].
        write (`bool`, defaults to `True`): Whether to note the run in the folder; one process does.

    Raises:
        ValueError: If another run was begun there; the message says what differs.
    """
    path = folder / RUN_NAME
    if not path.is_file():
        if write:
            write_json(path, run)
        return
    before, now = _flat(json.loads(path.read_text(encoding="utf-8"))), _flat(run)
    differing = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if differing:
        words = "; ".join(f"{name} was {before.get(name)}, now {now.get(name)}" for name in differing[:5])
        raise ValueError(
            f"{folder} holds another run ({words}). Give this one another output folder, or repeat that one as it was "
            "to go on with it."
        )


def publishable_settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe for a results file: without what names a folder of this machine."""
    encoders = {"audio": public_name(recipe.audio_encoder), "vision": public_name(recipe.vision_encoder)}
    sections = {"precision": recipe.precision, "config": recipe.config, "processor": recipe.processor}
    settings = {**sections, "data": recipe.data, "training": recipe.training, "encoders": encoders}
    return _without_local_paths(json.loads(json.dumps(settings, default=str)))


def source_commit() -> str | None:
    """Commit of the checkout that this package runs from, with `-dirty` behind it where files differ; or None."""
    root = Path(__file__).resolve().parents[2]
    if not ((root / ".git").exists() and (root / "pyproject.toml").is_file()):
        return None
    command = ["git", "-C", os.fspath(root), "describe", "--always", "--abbrev=40", "--dirty", "--match", "-"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Settings by their names, `training.learning_rate`, without those that are None."""
    if isinstance(value, Mapping):
        inner = [_flat(item, f"{name}.{key}" if name else str(key)) for key, item in value.items()]
        return {key: item for part in inner for key, item in part.items()}
    return {} if value is None else {name: value}


def _without_local_paths(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if isinstance(item, dict) or not find_local_path(item, key)}
        cleaned = {key: _without_local_paths(item) for key, item in kept.items()}
        return {key: item for key, item in cleaned.items() if item not in (None, {}, [])}  # as results files do
    return value


__all__ = [
    "PREDICTIONS_NAME",
    "RUN_NAME",
    "claim",
    "describe_run",
    "publishable_settings",
    "source_commit",
    "write_json",
]
