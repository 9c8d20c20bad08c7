"""What a run records about itself: its settings, clips and commit. These records stay on this machine."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic_files import write_json
from ..identity import READING_VERSION, as_stored, digest_of
from ..results.publishable import find_local_path, public_name
from .recipe import DEFAULT_ARCHITECTURE, Recipe


RUN_NAME = "run.json"
PREDICTIONS_NAME = "predictions.json"
# A run can be resumed with other values of these, because they change no result.
_FREE_SETTINGS = (
    *("dataloader_num_workers", "dataloader_persistent_workers", "dataloader_pin_memory", "dataloader_prefetch_factor"),
    *("disable_tqdm", "log_level", "report_to", "run_name", "use_cpu"),
)


def describe_run(recipe: Recipe, splits: Mapping[str, Sequence[str]], **facts: Any) -> dict[str, Any]:
    """Everything that identifies a run.

    Args:
        recipe ([`Recipe`]): With all changes of this run.
        splits (`Mapping[str, Sequence[str]]`): Ids of the clips of each split.
        **facts: More, as plain values.
    """
    training = {name: value for name, value in recipe.training.items() if name not in _FREE_SETTINGS}
    # Runs of former recipes, which did not name the only architecture there was, continue.
    architecture = None if recipe.architecture == DEFAULT_ARCHITECTURE else recipe.architecture
    settings = {
        **recipe.as_dict(),
        "architecture": architecture,
        "training": training,
        "description": None,
        "corpus": None,
        "reading_version": READING_VERSION,
    }
    clips = {name: f"{len(ids)}, {digest_of(sorted(ids))[:12]}" for name, ids in splits.items()}
    return as_stored({**facts, "clips": clips, **settings})


def claim(folder: Path, run: Mapping[str, Any], *, write: bool = True) -> None:
    """Make sure that a folder belongs to this run, which may continue there.

    Args:
        folder (`pathlib.Path`): Created if it does not exist.
        run (`Mapping[str, Any]`): From [`describe_run`].
        write (`bool`, defaults to `True`): Whether to record the run in the folder; one process does.

    Raises:
        ValueError: If the folder holds another run; the message lists the differences.
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
        more = f"; and {len(differing) - 5} more" if len(differing) > 5 else ""
        raise ValueError(
            f"{folder} holds another run ({words}{more}). Choose another output folder, or use the settings of that "
            "run to continue it."
        )


def publishable_settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe for a results file, without settings that name a folder of this machine."""
    encoders = {"audio": public_name(recipe.audio_encoder), "vision": public_name(recipe.vision_encoder)}
    sections: dict[str, Any] = {"precision": recipe.precision, "config": recipe.config, "processor": recipe.processor}
    if recipe.architecture is not None:
        sections["architecture"] = recipe.architecture
    return _without_local_paths(
        as_stored({**sections, "data": recipe.data, "training": recipe.training, "encoders": encoders})
    )


def source_commit() -> str | None:
    """Git commit of the checkout that runs, with `-dirty` if files were changed; None outside of a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not ((root / ".git").exists() and (root / "pyproject.toml").is_file()):
        return None
    command = ["git", "-C", os.fspath(root), "describe", "--always", "--abbrev=40", "--dirty", "--match", "-"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Settings by their full names, `training.learning_rate`, without those that are None."""
    if isinstance(value, Mapping):
        inner = [_flat(item, f"{name}.{key}" if name else str(key)) for key, item in value.items()]
        return {key: item for part in inner for key, item in part.items()}
    return {} if value is None else {name: value}


def _without_local_paths(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if isinstance(item, dict) or not find_local_path(item, key)}
        cleaned = {key: _without_local_paths(item) for key, item in kept.items()}
        return {key: item for key, item in cleaned.items() if item not in (None, {}, [])}  # as in results files
    return value


__all__ = ["PREDICTIONS_NAME", "RUN_NAME", "claim", "describe_run", "publishable_settings", "source_commit"]
