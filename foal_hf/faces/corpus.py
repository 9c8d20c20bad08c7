"""Crop boxes around the main face of every clip of a corpus, found once and kept.

corpus, report = with_face_boxes(load_corpus("iemocap", data_dir="IEMOCAP_full_release", split=None))
print(report.render())
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..corpora.materialize import source_identity
from ..corpora.schema import FEATURES, undecoded
from ..foal_net.faces_foal_net import FaceCounter
from ..foal_net.media_foal_net import read_clip
from ..foal_net.sources_foal_net import MediaError
from ..identity import READING_VERSION, digest_of
from .centerface import EXTRA, CenterFace, missing_packages
from .crops import CROP_MARGIN, is_square_of_frame, square_around
from .detection import FaceDetector
from .watching import FaceCrops


_VERSION = 1  # raised whenever equal clips get other boxes
_LOOKS_PER_SECOND = 2.0
_MOST_LISTED = 10
_MOST_WORKERS = 8
_FILE = "faces.jsonl"
_COLUMNS = ("clip_id", "video", "start_seconds", "end_seconds", "crop_box")


@dataclass
class FacesReport:
    """What was found in a corpus.

    Attributes:
        num_clips, num_with_face (`int`): Clips with video, and those in which a face is seen.
        without_face (`list[str]`): Ids of the others; they keep their crop box, or have the whole frame.
        several_faces (`list[str]`): Ids of clips with more than one face at a time; the box is that of the main one.
        failed (`dict[str, str]`): Clips whose video cannot be read, with the reason; they keep their crop box.
    """

    num_clips: int = 0
    num_with_face: int = 0
    without_face: list[str] = field(default_factory=list)
    several_faces: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def render(self) -> str:
        """As text."""
        lines = [f"{self.num_with_face} of {self.num_clips} clips with video have a face"]
        for words, clips in (
            ("without a face; their crop box stays, or is the whole frame", self.without_face),
            ("with several faces; the largest, longest visible one is taken", self.several_faces),
            ("cannot be read", [f"{clip} ({reason})" for clip, reason in self.failed.items()]),
        ):
            more = f" and {len(clips) - _MOST_LISTED} more" if len(clips) > _MOST_LISTED else ""
            if clips:
                lines.append(f"{len(clips)} {words}: {', '.join(clips[:_MOST_LISTED])}{more}")
        return "\n".join(lines)


def with_face_boxes(
    corpus: Any,
    store_dir: str | os.PathLike[str] | None = None,
    *,
    margin: float = CROP_MARGIN,
    detector: FaceDetector | None = None,
    num_workers: int | None = None,
    on_error: str = "raise",
    progress: bool = True,
) -> tuple[Any, FacesReport]:
    """Give every clip of a corpus the crop box of its main face.

    The box is one for the whole clip: the square of `margin` times the longer side around the median box of the face
    that is largest and longest visible, of two frames a second. It may leave the frame, see [`MediaFile.read`]. In a
    clip that has a crop box, such as the speaker's half in IEMOCAP, faces are looked for inside of it, and the square
    stays inside. What is found of a clip is stored at once, and found again there as long as its file is the same.

    Args:
        corpus (`datasets.Dataset` or `datasets.DatasetDict`): Rows of [`~foal_hf.corpora.schema.corpus_features`].
        store_dir (`str` or `os.PathLike`, *optional*): Folder of what was found. Default: one in the cache of
            `datasets`, for all corpora.
        margin (`float`, defaults to 1.36): Side of the square by the longer side of the face.
        detector ([`FaceDetector`], *optional*): CenterFace by default, which needs the extra `faces`.
        num_workers (`int`, *optional*): Processes that decode and detect; 0 uses this one. Default: the number of
            processors minus one, at most 8.
        on_error (`"raise"` or `"skip"`, defaults to `"raise"`): What to do about a clip that cannot be read. With
            `"skip"` its crop box stays, and the report lists it.
        progress (`bool`, defaults to `True`): Show a progress bar.

    Returns:
        The corpus with another `crop_box`, and the [`FacesReport`].

    Raises:
        ImportError: If a package of the extra `faces` is missing.
        MediaError: If a clip cannot be read.
        ValueError: If `on_error` is neither.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` has to be 'raise' or 'skip', got {on_error!r}.")
    if detector is None and (missing := missing_packages()):
        raise ImportError(f"Faces cannot be found without {', '.join(missing)}: {EXTRA}")
    workers = min(max((os.cpu_count() or 1) - 1, 1), _MOST_WORKERS) if num_workers is None else num_workers
    finder = _Finder(detector or CenterFace())
    store = _Store(Path(store_dir) if store_dir is not None else _default_folder())
    report = FacesReport()
    done = {}
    for name, split in (corpus if isinstance(corpus, dict) else {"": corpus}).items():
        rows = undecoded(split.with_format(None))
        rows = _Rows(rows.select_columns([each for each in _COLUMNS if each in rows.features]), finder)
        found = _found(rows, store, workers, on_error, report, progress)
        boxes = [_box(rows.rows[index], found.get(index), margin, report) for index in range(len(rows))]
        columns = split.column_names if "crop_box" in split.column_names else [*split.column_names, "crop_box"]
        others = split.select_columns([each for each in split.column_names if each != "crop_box"])
        done[name] = others.add_column("crop_box", boxes, feature=FEATURES["crop_box"]).select_columns(columns)
    return (type(corpus)(done) if isinstance(corpus, dict) else done[""]), report


@dataclass(frozen=True)
class _Finder:
    """Finds the faces of one clip."""

    detector: FaceDetector

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """`frame` (width, height), `box` of the main face in the frame (or None), and `most_faces` at a time."""
        sizes: list[list[int]] = []
        crops = FaceCrops(_nothing, CROP_MARGIN, self.detector, _LOOKS_PER_SECOND, wide_look_seconds=0.0)
        watch = crops.watch()

        def find_faces(frames: torch.Tensor, seconds: Sequence[float]) -> Any:
            sizes.append([frames.shape[-1], frames.shape[-2]])
            return watch(frames, seconds)

        clip = read_clip(
            video=row["video"],
            modalities=("video",),
            frames_per_second=_LOOKS_PER_SECOND,
            max_seconds=None,
            start_seconds=row.get("start_seconds") or 0.0,
            end_seconds=row.get("end_seconds"),
            crop_box=row.get("crop_box"),
            transform=_nothing,
            find_faces=find_faces,
        )
        counter, faces = FaceCounter(), clip.faces or ()
        counter.add(faces)
        person, box = counter.main_person, None
        if person is not None:
            boxes = [each[person].box for each in faces if person in each and each[person].is_seen]
            box = np.median(boxes, axis=0).round(2).tolist()
        seen = [sum(face.is_seen for face in each.values()) for each in faces]
        return {"frame": sizes[0], "box": box, "most_faces": max(seen, default=0)}

    def key(self, row: Mapping[str, Any]) -> str:
        """Changes with everything that the result depends on."""
        how = [_VERSION, READING_VERSION, type(self.detector).__name__, _LOOKS_PER_SECOND]
        place = [row["video"].get("stream_index"), *(row.get(name) for name in _COLUMNS[2:])]
        return digest_of([how, source_identity(row["video"]), place])


class _Rows(Dataset):
    """The faces of each row, or the error of reading it."""

    def __init__(self, rows: Any, finder: _Finder) -> None:
        self.rows, self.finder = rows, finder

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[int, dict[str, Any] | str]:
        row = self.rows[index]
        try:
            return index, self.finder(row)
        except ValueError as error:  # a MediaError, or an invalid range
            return index, getattr(error, "reason", str(error))


class _Store:
    """What was found, one line of JSON for each clip; any number of processes may add to it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / _FILE
        self.found: dict[str, dict[str, Any]] = {}
        for line in self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []:
            with contextlib.suppress(ValueError):  # a line that was being written when a run was stopped
                entry = json.loads(line)
                self.found[entry.pop("key")] = entry

    def add(self, key: str, found: dict[str, Any]) -> None:
        self.found[key] = found
        with open(self._path, "ab", buffering=0) as file:  # one write, so that processes do not mix their lines
            file.write(f"\n{json.dumps({'key': key, **found})}\n".encode())


def _found(
    rows: _Rows, store: _Store, num_workers: int, on_error: str, report: FacesReport, progress: bool
) -> dict[int, dict[str, Any]]:
    """What is found in each row with video, by its index; what the store lacks is looked for."""
    from tqdm.auto import tqdm

    keys = {index: rows.finder.key(row) for index, row in enumerate(rows.rows) if row.get("video") is not None}
    missing = [index for index, key in keys.items() if key not in store.found]
    loader = DataLoader(
        rows,
        batch_size=None,
        sampler=missing,
        num_workers=min(num_workers, len(missing)),
        collate_fn=_unchanged,
        generator=torch.Generator(),  # a loader draws a seed for its workers: leave the global state alone
    )
    for index, found in tqdm(loader, desc="Looking for faces", unit="clip", disable=not (progress and missing)):
        clip_id = str(rows.rows[index].get("clip_id") or f"row {index}")
        if isinstance(found, str) and on_error == "raise":
            raise MediaError(clip_id, f'{found} Fix it, or skip such clips with on_error="skip".')
        if isinstance(found, str):
            report.num_clips += 1
            report.failed[clip_id] = found
        else:
            store.add(keys[index], found)
    return {index: store.found[key] for index, key in keys.items() if key in store.found}


def _box(row: Mapping[str, Any], found: Mapping[str, Any] | None, margin: float, report: FacesReport) -> Any:
    """The crop box of a clip; counts it in the report."""
    own = row.get("crop_box")
    if found is None:  # no video, or it cannot be read
        return own
    clip_id = str(row.get("clip_id"))
    report.num_clips += 1
    if found["most_faces"] > 1:
        report.several_faces.append(clip_id)
    if found["box"] is None:
        report.without_face.append(clip_id)
        return own or [0, 0, *found["frame"]]
    report.num_with_face += 1
    width, height = found["frame"]
    square = square_around(found["box"], margin)
    if own is None:
        return [0, 0, width, height] if is_square_of_frame(square, height, width) else list(square)
    left, top, right, bottom = square
    side = min(right - left, width, height)
    left = min(max(round((left + right - side) / 2), 0), width - side) + own[0]
    top = min(max(round((top + bottom - side) / 2), 0), height - side) + own[1]
    return [left, top, left + side, top + side]


def _default_folder() -> Path:
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "foal_hf_faces"


def _nothing(frames: torch.Tensor) -> torch.Tensor:
    """One pixel of each frame: only the boxes are wanted."""
    return frames[..., :1, :1]


def _unchanged(item: Any) -> Any:
    return item


__all__ = ["FacesReport", "with_face_boxes"]
