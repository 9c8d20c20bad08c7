"""What the results of a job depend on, so that results of two models or settings never mix.

Device, batch size and the number of workers change results by rounding only, and are not part of it.
"""

from collections.abc import Mapping
from typing import Any

from ..identity import READING_VERSION, as_stored, digest_of, digest_of_tensors, without_provenance


def describe_job(classify: Any, **settings: Any) -> dict[str, Any]:
    """Everything that the results of a job depend on, by name.

    Args:
        classify ([`AudioVideoEmotionPipeline`]): Has the model and the processor.
        **settings: Settings of the job, such as `window_seconds`; plain values.

    Returns:
        `dict[str, Any]`: Digests of the weights and the config, the settings of the processor and of the job, and the
        version of the reading.
    """
    parts = without_provenance(classify.processor.to_dict())
    processor = {
        f"{part}.{name}": value
        for part in ("feature_extractor", "video_processor")
        for name, value in parts[part].items()
    }
    return as_stored(
        {
            "weights": digest_of_tensors(classify.model.state_dict()),
            "config": digest_of(without_provenance(classify.model.config.to_dict())),
            "reading_version": READING_VERSION,
            **processor,
            **settings,
        }
    )


def difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The differences between two descriptions, in words; empty if they are equal."""
    names = [name for name in sorted({*was, *now}) if was.get(name) != now.get(name)]
    in_words = {"weights": "other weights", "config": "another config of the model"}
    return "; ".join(in_words.get(name) or f"{name} was {was.get(name)} and is now {now.get(name)}" for name in names)


__all__ = ["describe_job", "difference"]
