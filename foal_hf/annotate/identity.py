"""Everything that the results of a job depend on, so that those of two models or settings never mix.

Device, batch size and the number of workers change results by rounding only, and are left out.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch


# To be raised whenever this package comes to read other samples, frames or windows from the same file.
_READING_VERSION = 1
# What configs say of themselves that has no part in the numbers.
_NO_PART = {
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "auto_map",
    "custom_pipelines",
    "dtype",  # the weights tell
    "processor_class",
    "transformers_version",
}


def describe_job(classify: Any, **settings: Any) -> dict[str, Any]:
    """What a job's results depend on, by name.

    Args:
        classify ([`AudioVideoEmotionPipeline`]): Has the model and the processor.
        **settings: Those of the job, such as `window_seconds`; plain values.

    Returns:
        `dict[str, Any]`: Digests of the weights and the config, the settings of the processor and of the job, the
        version of the reading.
    """
    parts = classify.processor.to_dict()
    processor = {
        f"{part}.{name}": value
        for part in ("feature_extractor", "video_processor")
        for name, value in parts[part].items()
        if name not in _NO_PART
    }
    return _plain(
        {
            "weights": _weights_digest(classify.model),
            "config": fingerprint(_without_names(classify.model.config.to_dict())),
            "reading_version": _READING_VERSION,
            **processor,
            **settings,
        }
    )


def fingerprint(description: Mapping[str, Any]) -> str:
    """A description as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(_plain(description), sort_keys=True).encode()).hexdigest()


def difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words, in what two descriptions differ; empty if they do not."""
    names = [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]
    in_words = {"weights": "other weights", "config": "another config of the model"}
    return "; ".join(in_words.get(name) or f"{name} was {was.get(name)}, and is {now.get(name)}" for name in names)


def _weights_digest(model: torch.nn.Module) -> str:
    tensors = sorted(model.state_dict().items())
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        digests = list(pool.map(lambda item: (item[0], _tensor_digest(item[1])), tensors))
    return fingerprint(dict(digests))


def _tensor_digest(tensor: torch.Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)} ".encode())
    digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _without_names(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {str(name): _without_names(value) for name, value in config.items() if name not in _NO_PART}
    return config


def _plain(value: Any) -> Any:
    """As it comes back from JSON, so that what was stored compares equal."""
    return json.loads(json.dumps(value, default=str))


__all__ = ["describe_job", "difference", "fingerprint"]
