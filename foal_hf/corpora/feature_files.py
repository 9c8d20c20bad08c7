"""Files of features in a corpus, in place of audio or video: what is wrong with them, and how wide they are."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ..foal_net.features_foal_net import FEATURE_FILES, SIDES, read_features
from ..foal_net.sources_foal_net import MediaError


def find_feature_faults(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Read every file of features.

    Args:
        rows (`Sequence[Mapping]`): Of a corpus.

    Returns:
        `dict[str, str]`: By `clip_id`, why a file cannot be used: see [`read_features`]; or its features are not as
        wide as those of most other clips.
    """
    faults: dict[str, str] = {}
    widths: dict[str, dict[str, int]] = defaultdict(dict)
    for row in rows:
        for column in FEATURE_FILES:
            if row.get(column) is not None:
                try:
                    widths[column][row["clip_id"]] = read_features(row[column]).shape[1]
                except MediaError as error:
                    faults.setdefault(row["clip_id"], f"{error.source} {error.reason.rstrip('.')}")
    for column, width_of in widths.items():
        (usual, count), *_ = Counter(width_of.values()).most_common(1)
        for clip_id, width in width_of.items():
            if width != usual:
                fault = f"{column} is {width} wide, those of {count} other clips {usual}"
                faults.setdefault(clip_id, f"{fault}: they are not of one extractor")
    return faults


def feature_widths(corpus: Any) -> dict[str, int]:
    """The sides of a corpus that are features, and their width.

    Args:
        corpus (`datasets.Dataset`): Undecoded rows are enough; one file of each side is read.

    Returns:
        `dict[str, int]`: Width by side, `"audio"` or `"video"`; without the sides that are media.

    Raises:
        ValueError: If a side is features in some clips and media in others.
        MediaError: If a file of features cannot be read.
    """
    widths = {}
    for side in SIDES:
        column = f"{side}_features_file"
        if column not in corpus.features:
            continue
        with_features = [row for row, path in enumerate(corpus[column]) if path is not None]
        if not with_features:
            continue
        others = set(range(len(corpus))) - set(with_features)
        with_media = [row for row in others if corpus[row][side] is not None]
        if with_media:
            raise ValueError(
                f"{len(with_features)} clips have {side} features and {len(with_media)} have {side} that is not: one "
                "model takes one or the other. Extract the features of all clips, or use the media of all."
            )
        widths[side] = read_features(corpus[with_features[0]][column]).shape[1]
    return widths


__all__ = ["feature_widths", "find_feature_faults"]
