"""What is in a corpus: clips by class, speaker, session and gender, how long they are, and which files are missing."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..atomic_files import replacing, write_json
from ..foal_net.features_foal_net import SIDES, read_features
from ..foal_net.media_foal_net import MediaFile, find_fault
from ..foal_net.sources_foal_net import MediaError
from . import make_builder
from .schema import undecoded


GROUPINGS = ("split", "session", "gender", "speaker")

_MAX_ROWS = 30  # groups that a printed table names
_MAX_LISTED = 5
_BAR_WIDTH = 40


@dataclass(frozen=True)
class GroupCounts:
    """Number of clips of one speaker, session, gender or split, or of all.

    Args:
        total (`int`): Clips.
        by_class (`dict[str, int]`): Clips of each class, 0 for a class without clips.
        by_gender (`dict[str, int]`): Clips of each gender; clips without a gender are not counted.
    """

    total: int
    by_class: dict[str, int]
    by_gender: dict[str, int]


@dataclass(frozen=True)
class CorpusReport:
    """Counts of a corpus.

    Args:
        total ([`GroupCounts`]): Of all clips.
        groups (`dict[str, dict[str, GroupCounts]]`): For `"split"`, `"session"`, `"gender"` and `"speaker"` the clips
            of each, by name; clips without a name are not counted.
        seconds (`list[float]`): Length of each clip whose length is known.
        missing (`list[dict[str, str]]`): `{"clip_id", "reason"}` of every clip with a file that does not exist, is
            empty, or is neither audio nor video.
        skipped (`list[dict[str, str]]`): `{"clip_id", "reason"}` of every clip that is not in the corpus.
        features (`dict[str, dict[str, int]]`): `{"clips", "width"}` of the features in place of `"audio"` or `"video"`.
    """

    total: GroupCounts
    groups: dict[str, dict[str, GroupCounts]]
    seconds: list[float]
    missing: list[dict[str, str]]
    skipped: list[dict[str, str]]
    features: dict[str, dict[str, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON. Lengths are summarised: `histogram` counts clips of 0 to 1 s, 1 to 2 s, and so on."""
        return {**asdict(self), "seconds": self.length_summary()}

    def length_summary(self) -> dict[str, Any]:
        """Sum, extremes, mean, median and histogram of the known lengths."""
        if not self.seconds:
            return {"num_known": 0}
        seconds = np.asarray(self.seconds)
        return {
            "num_known": len(seconds),
            "hours": float(seconds.sum() / 3600),
            "shortest": float(seconds.min()),
            "longest": float(seconds.max()),
            "mean": float(seconds.mean()),
            "median": float(np.median(seconds)),
            "histogram": np.bincount(seconds.astype(int)).tolist(),
        }

    def render(self) -> str:
        """The report as text: Markdown tables, and a histogram of characters."""
        sizes = [f"{len(self.groups[kind])} {kind}s" for kind in ("speaker", "session") if self.groups[kind]]
        parts = [", ".join([f"{self.total.total} clips", *sizes])]
        kinds = [kind for kind in GROUPINGS if len(self.groups[kind]) > 1] or ["split"]
        parts += [self._render_groups(kind) for kind in kinds]
        parts.append(self._render_lengths())
        parts += [
            f"{found['clips']} clips have {side} features of width {found['width']} instead of {side}."
            for side, found in self.features.items()
        ]
        parts += [
            _render_entries(title, entries)
            for title, entries in (
                ("clips have a file that cannot be read", self.missing),
                ("clips are skipped", self.skipped),
            )
            if entries
        ]
        return "\n\n".join(parts)

    def _render_groups(self, kind: str) -> str:
        labels = list(self.total.by_class)
        genders = [] if kind == "gender" else sorted(self.total.by_gender)
        lines = [_line([kind, *labels, "total", *genders]), _line(["---"] * (2 + len(labels) + len(genders)))]
        named = list(self.groups[kind].items())
        for name, counts in [*named[:_MAX_ROWS], ("all", self.total)]:
            cells = [counts.by_class[label] for label in labels]
            lines.append(_line([name, *cells, counts.total, *(counts.by_gender.get(gender, 0) for gender in genders)]))
        if len(named) > _MAX_ROWS:
            lines.insert(-1, _line([f"and {len(named) - _MAX_ROWS} more", *[""] * (len(labels) + 1 + len(genders))]))
        return "\n".join(lines)

    def _render_lengths(self) -> str:
        summary = self.length_summary()
        if not summary["num_known"]:
            return "The lengths of the clips are not known."
        unknown = self.total.total - summary["num_known"]
        lines = [
            f"{summary['hours']:.2f} h; clips of {summary['shortest']:.2f} to {summary['longest']:.2f} s, mean "
            f"{summary['mean']:.2f} s, median {summary['median']:.2f} s" + (f"; {unknown} unknown" if unknown else ""),
            "",
        ]
        most = max(summary["histogram"])
        lines += [
            f"    {start:4d} s {'#' * math.ceil(_BAR_WIDTH * count / most):<{_BAR_WIDTH}} {count}"
            for start, count in enumerate(summary["histogram"])
        ]
        return "\n".join(lines)


def corpus_report(
    corpus: Any,
    *,
    read_headers: bool = True,
    skipped: Iterable[Mapping[str, str]] = (),
    progress: bool = True,
) -> CorpusReport:
    """Count the clips of a corpus.

    Args:
        corpus (`datasets.Dataset`, or `datasets.DatasetDict`): With the columns of
            [`~foal_hf.corpora.schema.corpus_features`].
        read_headers (`bool`, defaults to `True`): Read the length of a clip from its file if the corpus does not
            have its end. No frame is decoded.
        skipped (`Iterable[Mapping]`, *optional*): Clips that were skipped when the corpus was loaded, for the report.
        progress (`bool`, defaults to `True`): Show a progress bar on stderr.

    Returns:
        [`CorpusReport`]

    Example:

    ```python
    >>> print(corpus_report(load_corpus("iemocap", data_dir="IEMOCAP_full_release")).render())
    ```
    """
    splits = dict(corpus) if isinstance(corpus, Mapping) else {str(corpus.split or "train"): corpus}
    labels = list(next(iter(splits.values())).features["emotion"].names)
    members: dict[str, dict[str, list[dict[str, Any]]]] = {kind: defaultdict(list) for kind in GROUPINGS}
    clips, seconds, missing = [], [], []
    features: dict[str, dict[str, int]] = {}
    rows = ((split, row) for split, part in splits.items() for row in undecoded(part))
    for split, row in tqdm(rows, total=sum(map(len, splits.values())), unit="clip", disable=not progress):
        clip = {"split": split, "label": labels[row["emotion"]]}
        clip |= {kind: row[kind] for kind in ("session", "gender", "speaker")}
        clips.append(clip)
        for kind in GROUPINGS:
            if clip[kind] is not None:
                members[kind][clip[kind]].append(clip)
        if faults := _faults(row):
            missing.append({"clip_id": row["clip_id"], "reason": "; ".join(faults)})
        elif (length := clip_seconds(row, read_headers)) is not None:
            seconds.append(length)
        for side in SIDES:
            if (path := row.get(f"{side}_features_file")) is not None:
                found = features.setdefault(side, {"clips": 0, "width": 0})
                found["width"] = found["width"] or read_features(path).shape[1]
                found["clips"] += 1
    return CorpusReport(
        total=_count(clips, labels),
        groups={
            kind: {name: _count(found[name], labels) for name in (found if kind == "split" else sorted(found))}
            for kind, found in members.items()
        },
        seconds=seconds,
        missing=missing,
        skipped=[dict(entry) for entry in skipped],
        features=features,
    )


def inspect_corpus(
    name: str, data_dir: str | os.PathLike[str] | None = None, *, progress: bool = True, **options: Any
) -> CorpusReport:
    """Load a corpus and count the clips of all its splits.

    Args:
        name, data_dir, **options: As in [`~foal_hf.corpora.load_corpus`], except that `on_error` is `"skip"` by
            default: a clip with a missing file is listed in the report.
        progress (`bool`, defaults to `True`): Show a progress bar on stderr.

    Returns:
        [`CorpusReport`]
    """
    builder = make_builder(name, data_dir, **{"on_error": "skip", **options})
    builder.download_and_prepare()
    return corpus_report(builder.as_dataset(), skipped=getattr(builder, "skipped", ()), progress=progress)


def prepare_corpus(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    output: str | os.PathLike[str],
    *,
    with_boxes: Callable[[Any], Any] | None = None,
    progress: bool = True,
    **options: Any,
) -> CorpusReport:
    """Write the rows of a corpus as Parquet, and their counts.

    The files have the rows only: the rows refer to audio and video by full paths. So they are of use on this machine,
    and they contain nothing of the recordings.

    Args:
        name, data_dir, **options: As in [`~foal_hf.corpora.load_corpus`].
        output (`str` or `os.PathLike`): Folder for `<split>-00000-of-00001.parquet`, which `datasets.load_dataset` and
            `datasets.Dataset.from_parquet` read, and `counts.json`.
        with_boxes (`Callable`, *optional*): Gets all splits, and returns them with the crop boxes to write.
        progress (`bool`, defaults to `True`): Show a progress bar on stderr.

    Returns:
        [`CorpusReport`]: The content of `counts.json`.
    """
    builder = make_builder(name, data_dir, **options)
    builder.download_and_prepare()
    corpus = builder.as_dataset()
    report = corpus_report(corpus, skipped=getattr(builder, "skipped", ()), progress=progress)
    corpus = corpus if with_boxes is None else with_boxes(corpus)
    folder = Path(output)
    for split, part in corpus.items():
        with replacing(folder / f"{split}-00000-of-00001.parquet") as partial:
            part.to_parquet(partial)
    write_json(folder / "counts.json", {"corpus": name, "media": "paths of this machine", **report.as_dict()}, indent=2)
    return report


def _count(clips: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> GroupCounts:
    genders = Counter(clip["gender"] for clip in clips if clip["gender"] is not None)
    classes = Counter(clip["label"] for clip in clips)
    return GroupCounts(len(clips), {label: classes[label] for label in labels}, dict(sorted(genders.items())))


def _faults(row: Mapping[str, Any]) -> list[str]:
    paths = dict.fromkeys(row[name]["path"] for name in ("video", "audio") if row[name] and not row[name]["bytes"])
    return [f"{path}: {fault.rstrip('.')}" for path in paths if (fault := find_fault(path))]


def clip_seconds(row: Mapping[str, Any], read_headers: bool = True) -> float | None:
    """The length of the clip of a row.

    Args:
        row (`Mapping[str, Any]`): With undecoded audio and video, see [`~foal_hf.corpora.schema.undecoded`].
        read_headers (`bool`, defaults to `True`): Read the length from the file if the row does not have its end.

    Returns:
        `float`, *optional*: Seconds; None if the length is not known.
    """
    start, end = row["start_seconds"] or 0.0, row["end_seconds"]
    if end is None and read_headers and (row["audio"] or row["video"]):
        try:
            with MediaFile(audio=row["audio"], video=row["video"]) as media:
                end = media.duration_seconds
        except MediaError:
            return None
    return None if end is None else end - start


def _line(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _render_entries(title: str, entries: Sequence[Mapping[str, str]]) -> str:
    lines = [f"- {entry['clip_id']}: {entry['reason']}" for entry in entries[:_MAX_LISTED]]
    if len(entries) > _MAX_LISTED:
        lines.append(f"- and {len(entries) - _MAX_LISTED} more")
    return "\n".join([f"{len(entries)} {title}:", "", *lines])
