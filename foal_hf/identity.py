"""Fingerprints: what results and stored features depend on, as digests that are equal on every machine.

Everything that is kept on disk and reused later (features, the results of a job, prepared corpora) is named by such
digests, so results of other files, weights or settings are never reused by mistake.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch


READING_VERSION = 4
"""Raise this when the package reads other samples, frames or windows from the same file with the same settings.

All stored features and the results of unfinished jobs are then computed again.
"""


NOT_IN_NUMBERS = frozenset(
    {
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "auto_map",
        "custom_pipelines",
        "dtype",  # the weights have it
        "processor_class",
        "torch_dtype",
        "transformers_version",
    }
)
"""Fields of configs and processors that change no number of a result."""


def without_provenance(config: Any) -> Any:
    """A config without the fields of `NOT_IN_NUMBERS`, in nested configs too."""
    if isinstance(config, Mapping):
        return {str(name): without_provenance(value) for name, value in config.items() if name not in NOT_IN_NUMBERS}
    return config


def digest_of(value: Any) -> str:
    """SHA-256 of a plain value, through JSON with sorted keys, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(as_stored(value), sort_keys=True).encode()).hexdigest()


def digest_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of named tensors: names, types, shapes and values, whatever their order and device."""
    with ThreadPoolExecutor() as pool:  # hashing releases the GIL
        digests = pool.map(_digest_of_tensor, tensors.values())
        return digest_of(dict(zip(tensors, digests, strict=True)))


def digest_of_file(path: Path | str) -> str:
    """SHA-256 of the content of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_stored(value: Any) -> Any:
    """A value as it comes back from JSON, so that it compares equal to what was stored."""
    return json.loads(json.dumps(value, default=str))


def _digest_of_tensor(tensor: torch.Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)} ".encode())
    digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
