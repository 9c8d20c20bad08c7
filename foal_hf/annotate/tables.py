"""The two tables of a job: the results, one row for each clip or segment, and the manifest, one row for each file.

Rows are sorted by file name, so the tables do not depend on the order of completion. They are written as streams, so
the memory needed does not depend on the number of files.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from ..atomic_files import replacing
from ..foal_net.timeline_foal_net import NO_LABEL
from .files import Key
from .journals import Record


_ROWS_PER_WRITE = 10_000
_EVIDENCE = {
    "audio_level_dbfs": pyarrow.float64(),
    "audio_silent": pyarrow.bool_(),
    "audio_clipped": pyarrow.bool_(),
    "audio_speech": pyarrow.bool_(),
    "audio_speech_share": pyarrow.float64(),
    "video_black": pyarrow.bool_(),
    "video_frozen": pyarrow.bool_(),
}
_FACES = {
    "video_crop": pyarrow.string(),
    "video_frames": pyarrow.int32(),
    "video_frames_with_face": pyarrow.int32(),
    "video_face_box": pyarrow.list_(pyarrow.float64()),
}
_MANIFEST = pyarrow.schema(
    {
        "file": pyarrow.string(),
        "start_seconds": pyarrow.float64(),
        "end_seconds": pyarrow.float64(),
        "status": pyarrow.string(),
        "error_type": pyarrow.string(),
        "error": pyarrow.string(),
        "duration_seconds": pyarrow.float64(),
        "num_segments": pyarrow.int32(),
        "seconds_spent": pyarrow.float64(),
        "attempts": pyarrow.int32(),
        "size_bytes": pyarrow.int64(),
        "notes": pyarrow.string(),
        "model_revision": pyarrow.string(),
        "fingerprint": pyarrow.string(),
    }
)


def write_results(
    path: Path,
    records: Iterable[Record],
    labels: Sequence[str],
    about: Mapping[str, Any],
    *,
    has_faces: bool = False,
) -> None:
    """Write a row for each clip or segment.

    Columns: `file`, `start_seconds`, `end_seconds`, `label`, `score`, `score_<label>` of each class, `modalities`,
    `audio_<measure>` and `video_<measure>` of the evidence, `reason`, `notes`: those of `foal-hf predict --csv`.

    Args:
        path (`Path`): Parquet file, replaced if it exists.
        records (`Iterable[Record]`): Failed files give no row.
        labels (`Sequence[str]`): Classes in the model's order.
        about (`Mapping[str, Any]`): Stored in the metadata of the file as JSON, under `foal_hf`.
        has_faces (`bool`, defaults to `False`): Whether there are columns for the evidence about faces.
    """
    fields = {
        "file": pyarrow.string(),
        "start_seconds": pyarrow.float64(),
        "end_seconds": pyarrow.float64(),
        "label": pyarrow.string(),
        "score": pyarrow.float32(),
        **{f"score_{label}": pyarrow.float32() for label in labels},
        "modalities": pyarrow.list_(pyarrow.string()),
        **_EVIDENCE,
        **(_FACES if has_faces else {}),
        "reason": pyarrow.string(),
        "notes": pyarrow.string(),
    }
    _write(path, (row for record in records for row in _segment_rows(record)), pyarrow.schema(fields), about)


def write_manifest(
    path: Path, records: Iterable[Record], keys: Iterable[Key], about: Mapping[str, Any]
) -> dict[str, int]:
    """Write a row for each file.

    Args:
        path (`Path`): Parquet file, replaced if it exists.
        records (`Iterable[Record]`): In the order of `keys`.
        keys (`Iterable[Key]`): All files; those without a record are pending.
        about (`Mapping[str, Any]`): `fingerprint` and `model_revision`.

    Returns:
        `dict[str, int]`: Number of files that are `done`, `failed` and `pending`.
    """
    numbers = {"done": 0, "failed": 0, "pending": 0}

    def rows() -> Iterator[dict[str, Any]]:
        left = iter(records)
        record = next(left, None)
        for key in keys:
            if record is None or record.key != key:
                row: dict[str, Any] = {"status": "pending", "attempts": 0}
            else:
                row, record = _file_row(record, about), next(left, None)
            file, start_seconds, end_seconds = key
            row |= {"file": file, "start_seconds": start_seconds or None}
            row |= {"end_seconds": end_seconds if math.isfinite(end_seconds) else None}
            numbers[row["status"]] += 1
            yield row

    _write(path, rows(), _MANIFEST, about)
    return numbers


def _segment_rows(record: Record) -> Iterator[dict[str, Any]]:
    for segment in record.segments:
        yield {
            "file": record.file,
            "start_seconds": segment.start_seconds,
            "end_seconds": segment.end_seconds,
            "label": segment.label,
            "score": None if segment.reason == NO_LABEL else max(segment.scores.values(), default=0.0),
            **{f"score_{label}": score for label, score in segment.scores.items()},
            "modalities": list(segment.modalities),
            **{
                f"{modality}_{name}": value
                for modality, measures in (segment.evidence or {}).items()
                for name, value in (measures or {}).items()
            },
            "reason": segment.reason,
            "notes": "; ".join(segment.notes) or None,
        }


def _file_row(record: Record, about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "status": "done" if record.error_type is None else "failed",
        "error_type": record.error_type,
        "error": record.error,
        "duration_seconds": record.duration_seconds,
        "num_segments": len(record.segments),
        "seconds_spent": record.seconds,
        "attempts": record.attempts,
        "size_bytes": None if record.size_bytes < 0 else record.size_bytes,
        "notes": record.notes,
        **about,
    }


def _write(path: Path, rows: Iterator[dict[str, Any]], schema: pyarrow.Schema, about: Mapping[str, Any]) -> None:
    schema = schema.with_metadata({"foal_hf": json.dumps(dict(about))})
    with replacing(path) as partial, pyarrow.parquet.ParquetWriter(partial, schema) as writer:
        while some := list(islice(rows, _ROWS_PER_WRITE)):
            writer.write_table(pyarrow.Table.from_pylist(some, schema=schema))


__all__ = ["write_manifest", "write_results"]
