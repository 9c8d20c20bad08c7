"""Recordings in the pipeline: read in windows, with evidence, scored in batches and merged into segments."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .evidence_foal_net import EvidenceMeter, measure_evidence, usable_part, why_nothing
from .faces_foal_net import NO_FACE, NOT_FOUND, TURNED_OFF, FaceCounter, crop_to_main_face
from .features_foal_net import features_of
from .media_foal_net import Clip, MediaFile
from .rows_foal_net import RANGE_FIELDS, check_sampling_rate_given, given, names_features, source_and_settings
from .sources_foal_net import MediaError, is_url
from .timeline_foal_net import ScoredSegment, merge_windows
from .windows_foal_net import Stride, read_windows


MODALITIES = {
    "both": ("audio", "video"),
    "audio": ("audio",),
    "video": ("video",),
    "auto": ("audio", "video"),
}
# What reading a file may raise. A missing decoder (ImportError) is not the fault of the file.
UNREADABLE = (ValueError, TypeError, OSError, RuntimeError, LookupError)
# Arguments of a call that need `window_seconds`.
TIMELINE_SETTINGS = ("stride_seconds", "stream", "progress")
# Longer recordings are read in order. A file that is read by seeking is faster, but memory grows with the length.
_LONGEST_SEEKING_SECONDS = 60.0


@dataclass(frozen=True)
class PendingWindow:
    """One stride, and the clip that the model has to score for it.

    Attributes:
        segment (`ScoredSegment`): Without scores.
        clip (`Clip`, *optional*): The window that begins with the stride; None without a window or usable content.
        duration_seconds (`float`, *optional*): Of the whole recording, according to the file.
        is_last (`bool`): Whether the recording ends with this stride.
        notes (`tuple[str, ...]`): What the reader skipped, moved or converted so far.
    """

    segment: ScoredSegment
    clip: Clip | None
    duration_seconds: float | None
    is_last: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class WindowReader:
    """Reads recordings window by window, as the model needs them; it pickles, and does not hold the model.

    Args:
        processor ([`FoalNetProcessor`]): Has the rates; its `max_seconds` is the window of `whole`.
        shortest_sound (`int`): Minimum number of audio samples that the model needs.
        modality (`str`): What to use, a key of `MODALITIES`. With `"auto"` the model does not get silent audio and
            black video.
        detect_speech (`bool`): Whether evidence includes speech detection.
        takes_features (`Mapping[str, str]`): Which features the model takes, in words, by the side, `"audio"` or
            `"video"`, that it has no encoder for.
        face_crops (*optional*): What finds and crops faces, see `reader_of_faces`; None uses the whole frame.
        without_faces (`str`, *optional*): Why the whole frame is used although the model was trained on faces.
    """

    processor: Any
    shortest_sound: int
    modality: str = "both"
    detect_speech: bool = True
    takes_features: Mapping[str, str] = field(default_factory=dict)
    face_crops: Any = None
    without_faces: str | None = None

    def timeline(
        self, source: Any, *, window_seconds: float, stride_seconds: float | None = None, **settings: Any
    ) -> Iterator[PendingWindow]:
        """The windows of one recording; each stride has its own evidence.

        Args:
            source: A clip, or a row.
            window_seconds, stride_seconds (`float`): As in `read_windows`; the stride is half a window by default.
            **settings: `frames_per_second`, `max_pixels`, `first_seconds` (read only this much, from the start) and
                fields of a row.

        Raises:
            MediaError: If the recording cannot be read.
        """
        if names_features(source):
            raise ValueError(
                "`window_seconds` needs a recording: the times of features are not known. Predict each clip on its own."
            )
        media, part = self._arguments(source, settings)
        part |= {"window_seconds": window_seconds, "stride_seconds": stride_seconds or window_seconds / 2}
        with MediaFile(**media, in_order=True) as opened:
            for stride in read_windows(opened, **part):
                evidence = measure_evidence(stride.segment, detect_speech=self.detect_speech)
                notes = self._note_crop(evidence, part)
                clip = None if stride.window is None else self._usable(stride.window)
                yield _pending(stride, clip, evidence, (*opened.notes, *notes), opened.duration_seconds)

    def whole(self, source: Any, *, with_evidence: bool = False, **settings: Any) -> Iterator[PendingWindow]:
        """All of one recording, in windows that do not overlap.

        Args:
            source: A clip, or a row.
            with_evidence (`bool`): Whether the last window has the evidence of the whole recording.
            **settings: As in `timeline`; also `max_seconds`, to read one window only, of this length at most (None: of
                any length).

        Raises:
            MediaError: If the recording cannot be read, or has nothing that the model can use.
        """
        if names_features(source):
            yield self._of_features(source, settings, with_evidence=with_evidence)
            return
        one_window = {"max_seconds": settings.pop("max_seconds")} if "max_seconds" in settings else None
        if one_window is None and self.processor.max_seconds is None:
            one_window = {}
        media, part = self._arguments(source, settings)
        is_auto = self.modality == "auto"
        meter = EvidenceMeter(detect_speech=self.detect_speech and with_evidence)
        faces = FaceCounter()
        has_content = is_auto
        for stride, opened in self._strides(media, part, one_window):
            clip = self._usable(stride.segment)
            has_content = has_content or clip is not None
            if with_evidence or is_auto:
                meter.add(stride.segment)
            faces.add(stride.segment.faces or ())
            if stride.is_last and not has_content:
                raise MediaError(
                    opened.name,
                    f"its audio is shorter than the {self.shortest_sound} samples at {self.processor.sampling_rate} Hz "
                    "that the model needs, and it has no video; give a longer clip.",
                )
            is_measured = stride.is_last and (with_evidence or is_auto)
            evidence = meter.evidence() if is_measured else {}
            notes = self._note_crop(evidence, part) if stride.is_last else ()
            if stride.is_last and faces.num_frames and not faces.num_with_face:
                notes = (NO_FACE,)
            yield _pending(stride, clip, evidence, (*opened.notes, *notes), opened.duration_seconds)

    def _of_features(self, row: dict[str, Any], settings: dict[str, Any], *, with_evidence: bool) -> PendingWindow:
        """A clip of which at least one side is features, as one window."""
        modalities = MODALITIES[self.modality]
        features = {f"{side}_features": features_of(row, side) for side in modalities}
        media = {side: row[side] for side in modalities if row.get(side) is not None}
        raw = [side for side in media if features[f"{side}_features"] is None]
        if not raw and all(value is None for value in features.values()):
            raise MediaError("row", f"has nothing for the modality {self.modality!r}; it has {', '.join(row)}.")
        check_media(raw, self.takes_features)
        settings = settings | given({name: row.get(name) for name in (*RANGE_FIELDS, "sampling_rate")})
        part = {name: settings[name] for name in (*RANGE_FIELDS, "frames_per_second") if name in settings}
        rate = settings.get("sampling_rate")
        clip = self.processor.read(
            **media, **part, **features, modalities=modalities, source_sampling_rate=rate if "audio" in raw else None
        )
        notes = tuple(
            f"{side}: {len(value)} positions of features that were given, of width {value.shape[1]}"
            for side in modalities
            if (value := features[f"{side}_features"]) is not None
        )
        evidence = {}
        if with_evidence:
            evidence = measure_evidence(clip, detect_speech=self.detect_speech)
            evidence["notes"] = [*evidence["notes"], *notes]
        usable = drop_too_short_audio(clip, self.shortest_sound)
        return _pending(Stride(clip, clip, is_last=True), usable, evidence, (*clip.notes, *notes))

    def _strides(
        self, media: dict[str, Any], part: dict[str, Any], one_window: dict[str, Any] | None
    ) -> Iterator[tuple[Stride, MediaFile]]:
        if one_window is not None:
            with MediaFile(**media) as opened:
                clip = opened.read(**part, **one_window)
                yield Stride(clip, clip, is_last=True), opened
            return
        windows = {"window_seconds": self.processor.max_seconds, "stride_seconds": self.processor.max_seconds, **part}
        if all(_can_be_opened_again(media.get(name)) for name in ("source", "audio", "video")):
            with MediaFile(**media) as opened:
                ends = given({"file": opened.duration_seconds, "part": part.get("end_seconds")}).values()
                if ends and min(ends) - part.get("start_seconds", 0.0) <= _LONGEST_SEEKING_SECONDS:
                    yield from ((stride, opened) for stride in read_windows(opened, **windows))
                    return
        with MediaFile(**media, in_order=True) as opened:
            yield from ((stride, opened) for stride in read_windows(opened, **windows))

    def _arguments(self, source: Any, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The arguments of `MediaFile`, and those of a read."""
        modalities = MODALITIES[self.modality]
        check_media(modalities, self.takes_features)
        sources, settings = source_and_settings(source, settings)
        rate = settings.get("sampling_rate")
        if "audio" in modalities:
            check_sampling_rate_given(sources.get("audio", sources.get("source")), rate)
        media = {
            **sources,
            **({} if "audio" in self.takes_features else {"sampling_rate": self.processor.sampling_rate}),
            "frames_per_second": settings.get("frames_per_second", self.processor.frames_per_second),
            "modalities": modalities,
            "source_sampling_rate": rate,
            **({"max_pixels": settings["max_pixels"]} if "max_pixels" in settings else {}),
        }
        part = {name: settings[name] for name in RANGE_FIELDS if name in settings}
        if "first_seconds" in settings:
            end = part.get("start_seconds", 0.0) + settings["first_seconds"]
            part["end_seconds"] = min(end, part.get("end_seconds", end))
        if self._looks_for_faces(part):
            part["find_faces"] = self.face_crops.watch()
        return media, {"transform": self.processor.video_processor.resize_and_crop, **part}

    def _looks_for_faces(self, part: Mapping[str, Any]) -> bool:
        return self.face_crops is not None and part.get("crop_box") is None

    def _note_crop(self, evidence: dict[str, Any], part: Mapping[str, Any]) -> tuple[str, ...]:
        """Say in the evidence, and in words, that the model gets whole frames in place of the faces it knows."""
        if self.without_faces is None or part.get("crop_box") is not None:
            return ()
        if evidence.get("video"):
            evidence["video"]["crop"] = "frame"
            evidence["notes"] = [*evidence["notes"], self.without_faces]
        return (self.without_faces,)

    def _usable(self, window: Clip) -> Clip | None:
        clip = drop_too_short_audio(window, self.shortest_sound)
        if clip is not None and self.modality == "auto":
            clip = usable_part(clip, measure_evidence(clip, detect_speech=False))
        return None if clip is None else crop_to_main_face(clip)


class WindowStream(IterableDataset):
    """The windows of many recordings, each read by one worker: pairs of its index and a `PendingWindow`.

    An error comes instead of the rest of its recording and is not raised: an error raised in a worker reaches the
    caller as another type.

    Args:
        recordings (`Iterable`): Shared out between the workers where it has a length.
        read (`Callable`): Returns the windows of one recording.
    """

    def __init__(self, recordings: Iterable[Any], read: Callable[[Any], Iterator[PendingWindow]]) -> None:
        self._recordings, self._read = recordings, read

    def __iter__(self) -> Iterator[tuple[int, PendingWindow | Exception]]:
        for index, recording in self._of_this_worker():
            try:
                if isinstance(recording, Exception):
                    raise recording
                for window in self._read(recording):
                    yield index, window
            except UNREADABLE as error:
                yield index, portable(error)

    def _of_this_worker(self) -> Iterator[tuple[int, Any]]:
        recordings: Any = self._recordings
        if not hasattr(recordings, "__len__"):
            return enumerate(recordings)
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return ((index, recordings[index]) for index in range(first, len(recordings), step))


@dataclass(frozen=True)
class TimelinePredictor:
    """Predicts the segments of recordings, window by window.

    Args:
        read (`Callable`): Returns the windows of one recording.
        score (`Callable`): Returns the probabilities `(clips, num_labels)` of a list of clips.
        describe (`Callable`): As in `merge_windows`.
        batch_size (`int`): Windows per forward pass.
        num_workers (`int`): 0, or 1 or more for one process that reads.
        show_progress (`bool`): Whether to show a progress bar.
    """

    read: Callable[[Any], Iterator[PendingWindow]]
    score: Callable[[list[Clip]], torch.Tensor]
    describe: Callable[[torch.Tensor | None, str | None], dict[str, Any]]
    batch_size: int = 1
    num_workers: int = 0
    show_progress: bool = False

    def segments(self, recording: Any) -> Iterator[dict[str, Any]]:
        """The segments of one recording, each as soon as the windows that cover it are scored."""
        yield from merge_windows(self._scored(recording), self.describe)

    def segments_and_error(self, recording: Any) -> Iterator[dict[str, Any]]:
        """As `segments`; an error is the last item, a dict with `error` and `error_type`."""
        try:
            yield from self.segments(recording)
        except UNREADABLE as error:
            yield {"error": str(error), "error_type": type(error).__name__}

    def _scored(self, recording: Any) -> Iterator[ScoredSegment]:
        from tqdm.auto import tqdm

        windows_of_one = WindowStream([recording], self.read)
        loader = DataLoader(windows_of_one, self.batch_size, num_workers=min(self.num_workers, 1), collate_fn=list)
        with tqdm(disable=not self.show_progress, unit="s", desc="recording") as bar:
            for batch in loader:
                windows = [item for _, item in batch if not isinstance(item, Exception)]
                for window, segment in zip(windows, self._scored_batch(windows), strict=True):
                    read = bar.n + segment.end_seconds - segment.start_seconds
                    bar.total = None if window.duration_seconds is None else max(window.duration_seconds, read)
                    bar.update(read - bar.n)
                    yield segment
                for _, error in batch[len(windows) :]:
                    raise_copy_of(error)

    def _scored_batch(self, windows: list[PendingWindow]) -> list[ScoredSegment]:
        rows = [row for row, window in enumerate(windows) if window.clip is not None]
        clips = [window.clip for window in windows if window.clip is not None]
        scores = dict(zip(rows, self.score(clips), strict=True)) if clips else {}
        return [replace(window.segment, scores=scores.get(row)) for row, window in enumerate(windows)]


def reader_of_faces(processor: Any, faces: str, modality: str) -> dict[str, Any]:
    """`face_crops` and `without_faces` of a [`WindowReader`].

    Args:
        processor ([`FoalNetProcessor`]): Knows what the model was trained on.
        faces (`"auto"` or `"off"`): Whether faces are looked for.
        modality (`str`): As in [`WindowReader`].
    """
    video_processor = processor.video_processor
    # A checkpoint may carry a processor from before there were crops, or none.
    if "video" not in MODALITIES[modality] or getattr(video_processor, "crop", "frame") != "face":
        return {}
    if faces == "off":
        return {"without_faces": TURNED_OFF}
    face_crops = video_processor.face_crops()
    return {"without_faces": NOT_FOUND} if face_crops is None else {"face_crops": face_crops}


def features_taken(config: Any) -> dict[str, str]:
    """Which features a model takes, in words, by the side that it has no encoder for."""
    # A checkpoint may carry a config class from before there were features.
    sides = {"audio": getattr(config, "audio_feature_dim", None), "video": getattr(config, "video_feature_dim", None)}
    return {side: config.describe_features(side) for side, width in sides.items() if width is not None}


def check_media(sides: Iterable[str], taken: Mapping[str, str]) -> None:
    """Raise `ValueError` if media of a side are to be read that the model takes as features.

    Args:
        sides (`Iterable[str]`): Of `"audio"` and `"video"`.
        taken (`Mapping[str, str]`): From [`features_taken`].
    """
    if wrong := [side for side in sides if side in taken]:
        words = " and ".join(taken[side] for side in wrong)
        keys = ", ".join(f"'{side}_features': ..." for side in taken)
        raise ValueError(
            f"This checkpoint cannot read {' and '.join(wrong)}: it takes {words}. Compute them with that extractor "
            f"and give a row, {{{keys}}}."
        )


def check_windows(
    window_seconds: float,
    stride_seconds: float | None = None,
    max_seconds: float | None = None,
    return_embeddings: bool = False,
    **_: Any,
) -> None:
    """Raise `ValueError` where the arguments of a call with `window_seconds` do not go together."""
    if not (math.isfinite(window_seconds) and window_seconds > 0):
        raise ValueError(f"`window_seconds` must be above 0, got {window_seconds}.")
    if stride_seconds is not None and not 0 < stride_seconds <= window_seconds:
        raise ValueError(
            f"`stride_seconds` must be above 0 and at most `window_seconds` = {window_seconds:g}, got {stride_seconds}."
        )
    if return_embeddings:
        raise ValueError("`return_embeddings` cannot be used with `window_seconds`: a segment is a mean of windows.")
    if max_seconds is not None:
        raise ValueError("`max_seconds` cannot be used with `window_seconds`; use `end_seconds` to stop earlier.")


def drop_too_short_audio(clip: Any, shortest_sound: int) -> Any:
    """The clip without audio that is shorter than one frame of the audio encoder; None if nothing remains."""
    if clip.waveform is not None and len(clip.waveform) < shortest_sound:
        clip = replace(clip, waveform=None, sampling_rate=None)
    return clip if clip.modalities else None


def portable(error: Exception) -> Exception:
    """The error if it can be sent from a worker process; else one with the same message."""
    try:
        pickle.dumps(copy.copy(error))  # a copy is made as in the other process
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def raise_copy_of(error: Exception) -> NoReturn:
    """Raise an error without the frames of this call, which refer to it.

    In a cycle with its own traceback it would keep the workers alive until garbage collection, which then waits five
    seconds for them. The message of a `MediaError` needs no traceback.
    """
    traceback = None if hasattr(error, "reason") else error.__traceback__
    raise copy.copy(error).with_traceback(traceback) from error.__cause__


def _pending(
    stride: Stride,
    clip: Clip | None,
    evidence: dict[str, Any],
    notes: tuple[str, ...],
    duration_seconds: float | None = None,
) -> PendingWindow:
    segment = ScoredSegment(
        start_seconds=stride.start_seconds,
        end_seconds=stride.end_seconds,
        evidence=evidence,
        window_end_seconds=stride.end_seconds if stride.window is None else stride.window.end_seconds,
        scores=None,
        modalities=() if clip is None else clip.modalities,
        reason=why_nothing(evidence) if evidence else None,
    )
    return PendingWindow(segment, clip, duration_seconds, stride.is_last, notes)


def _can_be_opened_again(source: Any) -> bool:
    """Whether reading it twice costs no second download and loses nothing."""
    source = source.get("path") if isinstance(source, dict) and source.get("bytes") is None else source
    is_open = hasattr(source, "read") and not getattr(source, "closed", False)
    is_stream = is_open and not getattr(source, "seekable", lambda: True)()
    return not is_url(source) and not is_stream


__all__ = [
    "MODALITIES",
    "TIMELINE_SETTINGS",
    "UNREADABLE",
    "PendingWindow",
    "TimelinePredictor",
    "WindowReader",
    "WindowStream",
    "check_media",
    "check_windows",
    "drop_too_short_audio",
    "features_taken",
    "portable",
    "raise_copy_of",
    "reader_of_faces",
]
