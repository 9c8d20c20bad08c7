"""The columns of every corpus."""

import dataclasses
import difflib
import functools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from datasets import Audio, ClassLabel, Features, List, Value, Video

from ..foal_net.features_foal_net import FEATURE_FILES


def corpus_features(labels: Sequence[str], feature_files: Collection[str] = ()) -> Features:
    """The columns of a corpus whose emotions have these names.

    | column | |
    | --- | --- |
    | `clip_id` | unique and stable |
    | `audio`, `video` | the original files, as decoders when a row is read; null if there is none |
    | `start_seconds`, `end_seconds` | the clip in `video`, end exclusive; null: from its start, to its end |
    | `audio_start_seconds` | start of the clip in `audio`; null: at `start_seconds` |
    | `crop_box` | left, top, right, bottom of the speaker, in pixels of the frame as shown; null: the whole frame |
    | | a square around a face may leave the frame, see [`MediaFile.read`] |
    | `speaker`, `session`, `gender` | a speaker is in one session (or group for cross-validation) only |
    | `emotion` | a class |
    | `valence`, `activation`, `dominance` | on the scale of the corpus |
    | `transcript` | the words |
    | `partition` | the split that the corpus defines; null if it defines none |
    | `audio_features_file`, `video_features_file` | in folders of features: files in place of `audio`, `video` |

    Args:
        labels (`Sequence[str]`): Names of the classes, by index.
        feature_files (`Collection[str]`, *optional*): Which of the last two columns there are.

    Returns:
        `datasets.Features`: In a fixed order.
    """
    return Features(
        {
            "clip_id": Value("string"),
            "audio": Audio(sampling_rate=16_000),
            "video": Video(),
            "start_seconds": Value("float64"),
            "end_seconds": Value("float64"),
            "audio_start_seconds": Value("float64"),
            "crop_box": List(Value("int32"), length=4),
            "speaker": Value("string"),
            "session": Value("string"),
            "gender": Value("string"),
            "emotion": ClassLabel(names=list(labels)),
            "valence": Value("float32"),
            "activation": Value("float32"),
            "dominance": Value("float32"),
            "transcript": Value("string"),
            "partition": Value("string"),
            **{name: Value("string") for name in FEATURE_FILES if name in feature_files},
        }
    )


FEATURES = corpus_features([])
"""The columns with their types and order; each corpus has its own names of emotions."""


# What people call these columns.
_SYNONYMS = {
    "label": "emotion",
    "split": "partition",
    "start": "start_seconds",
    "end": "end_seconds",
    "sex": "gender",
    "arousal": "activation",
    "text": "transcript",
}


def find_misspelt(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Unknown names of columns that seem to mean a known one, which is not among the names, and the known one."""
    given, known = set(names), list(known)
    misspelt = {}
    for name in sorted(given - set(known)):
        plain = "_".join(name.casefold().replace("-", " ").split())
        close = [_SYNONYMS.get(plain, ""), *difflib.get_close_matches(plain, known, n=1, cutoff=0.8)]
        if guesses := [guess for guess in close if guess in known and guess not in given]:
            misspelt[name] = guesses[0]
    return misspelt


def undecoded(dataset: Any) -> Any:
    """A dataset whose `audio` and `video` are as stored, `{"path", "bytes"}` or text; no file is opened.

    Where a column chooses a stream of its files (`Video(stream_index=1)`), they also have the key `stream_index`.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`): With any of the two columns.

    Returns:
        A dataset of the same kind with the same rows.
    """
    columns = {name: dataset.features.get(name) for name in ("audio", "video")}
    columns = {name: feature for name, feature in columns.items() if isinstance(feature, Audio | Video)}
    for name, feature in columns.items():
        dataset = dataset.cast_column(name, dataclasses.replace(feature, decode=False))
    chosen = {name: feature.stream_index for name, feature in columns.items() if feature.stream_index is not None}
    if not chosen:
        return dataset
    add_choice = functools.partial(_with_stream_index, chosen)
    is_stream = not hasattr(dataset, "with_transform")
    return dataset.map(add_choice, batched=True) if is_stream else dataset.with_transform(add_choice)


def _with_stream_index(chosen: dict[str, int], rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Media of some rows, with the stream that their column chooses."""
    choices = {
        name: [media and {**media, "stream_index": chosen[name]} for media in rows[name]]
        for name in chosen.keys() & rows.keys()
    }
    return {**rows, **choices}
