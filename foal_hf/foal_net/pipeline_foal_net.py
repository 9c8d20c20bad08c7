"""`pipeline("audio-video-emotion")`: recordings in, emotions out."""

import functools
import inspect
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import ModelOutput, logging

from .checkpoint_foal_net import CheckpointPart
from .faces_foal_net import FACES
from .recordings_foal_net import (
    MODALITIES,
    TIMELINE_SETTINGS,
    UNREADABLE,
    PendingWindow,
    TimelinePredictor,
    WindowReader,
    WindowStream,
    check_windows,
    features_taken,
    raise_copy_of,
    reader_of_faces,
)
from .rows_foal_net import CLIP_FIELDS, check_columns, given
from .sources_foal_net import MediaError
from .timeline_foal_net import is_regression, label_of, merge_into_one, named_scores, scores_of, weighted_mean
from .video_processing_foal_net import as_batch


logger = logging.get_logger(__name__)

# What Python can iterate over, but is one clip: files, arrays, decoders, images.
_MARKS_OF_ONE_CLIP = ("read", "ndim", "metadata", "convert")


class AudioVideoEmotionPipeline(CheckpointPart, ChunkPipeline):
    r"""Predicts the emotion of a speaking person in clips with audio, video or both.

    A clip is whatever [`read_clip`] reads (path, URL, bytes, file object, array, decoder), or a row: a dict with
    `audio` and/or `video` (each of those kinds) and optionally `start_seconds`, `end_seconds`, `audio_start_seconds`,
    `crop_box` and the `sampling_rate` of audio given as an array; other keys are an error. In place of `audio` or
    `video`, a row may have features of the clip: an array `(positions, width)` as `audio_features` or `video_features`,
    or a file of one as `audio_features_file` or `video_features_file`. A checkpoint without an encoder takes nothing
    else for that side, and an error about raw clips names the extractor that it was trained with.

    Both audio and video of a file are used, and of a `video` in a row or in a `datasets` Video column, unless the row
    has the key `audio`; `"audio": None` means no audio. Of an `audio` in a row or in a `datasets` Audio column, the
    audio alone is used.

    Clips are given one at a time, in lists, generators, torch datasets (`KeyDataset`), or as a `datasets` dataset of
    rows or one of its columns. Columns of a `datasets` dataset that are not fields of a row are not read.

    With `foal_hf` imported, `model` may be a folder written by `foal-hf export`; `backend` (`"torch"`, `"openvino"` or
    `"onnx"`) then requires that backend.

    Example:

    ```python
    >>> import foal_hf
    >>> from transformers import pipeline

    >>> classify = pipeline("audio-video-emotion", model="org/foal-net")
    >>> classify("clip.mp4", top_k=2)
    [{'label': 'happy', 'score': 0.93}, {'label': 'neutral', 'score': 0.04}]
    >>> for segment in classify("interview.mp4", window_seconds=6, stride_seconds=3, stream=True):
    ...     print(segment["start_seconds"], segment["end_seconds"], segment["label"], segment["modalities"])
    0.0 3.0 neutral ('audio', 'video')
    3.0 6.0 happy ('audio', 'video')
    ```
    """

    _load_processor = True  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]

    def __init__(self, *args: Any, backend: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        model_backend = getattr(self.model, "backend", "torch")
        if backend not in (None, model_backend):
            raise ValueError(
                f"`backend` is {backend!r}, but this model runs in {model_backend}. With the package installed, "
                "`foal-hf export CHECKPOINT --format openvino` (or onnx) writes a folder that can be given as `model`."
            )
        self.processor: Any
        if self.processor is None:
            raise ValueError(
                "The pipeline needs a processor: give `processor=`, or a `model` whose folder or repository has one."
            )
        self.tokenizer = None  # that of the processor is a stub for Trainer
        if getattr(self.model.config, "trained_on_generated_data", False):
            logger.warning(
                "This checkpoint was trained on generated voices and drawn faces only. Its labels mean nothing on real "
                "people: give `model=` a checkpoint that was trained on real people."
            )

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Predict the emotion of clips, or of the segments of recordings.

        A clip of any length is used completely. If it is longer than the processor's `max_seconds`, the length that the
        model was trained on, it is read in windows of this length that do not overlap, in the memory of a few windows;
        its scores are the mean of those of the windows, each weighted by its seconds.

        With `window_seconds`, a recording of any length is read from start to end in the memory of a few windows. The
        scores of each segment (one stride) are the mean of the windows that cover it. The last window is the first that
        reaches the end, and may be shorter.

        Args:
            inputs: A clip, or a list, generator or dataset of clips.
            modality (`"both"`, `"audio"`, `"video"` or `"auto"`, defaults to `"both"`): What to use. With `"both"`, a
                clip without one of them is predicted from the other. `"auto"` also skips silent audio and black video.
            top_k (`int`, *optional*): Return the most likely classes only; all by default.
            min_score (`float`, *optional*): If the best score is below this, from 0 to 1, the label is None.
            return_embeddings (`bool`, defaults to `False`): Also return the aligned embeddings. Not with
                `window_seconds`.
            return_evidence (`bool`, defaults to `False`): Also return what the media contain, see `measure_evidence`.
                With `window_seconds` it is always returned.
            detect_speech (`bool`, defaults to `True`): Whether the evidence includes speech detection, which needs the
                extra `speech`, and time.
            on_error (`"raise"` or `"skip"`, defaults to `"raise"`): With `"skip"`, the result of a clip that cannot be
                read is the error, and the other clips are not lost.
            frames_per_second (`float`, *optional*): Instead of the processor's.
            max_seconds (`float`, *optional*): Use one window only, from the start of each clip, of at most this length
                (None: of any length). Not with `window_seconds`.
            start_seconds, end_seconds, crop_box, sampling_rate (*optional*): As in a row, for all clips whose row does
                not set them.
            first_seconds (`float`, *optional*): Use only this much of each clip, from its start.
            max_pixels (`int`, *optional*): Limit of the pixels of one frame, as in [`MediaFile`].
            faces (`"auto"` or `"off"`, defaults to `"auto"`): A checkpoint that was trained on faces gets the main face
                of each clip or window, the largest, longest visible one, unless the row has a `crop_box`. That needs
                the extra `faces`. `"off"` looks for none. Other checkpoints get the whole frame in any case.
            window_seconds (`float`, *optional*): Predict windows of this length instead of one clip.
            stride_seconds (`float`, *optional*): From the start of one window to the start of the next; at most
                `window_seconds`, half of it by default.
            stream (`bool`, defaults to `False`): Return the segments of a recording while it is read, as an iterator.
            progress (`bool`, defaults to `False`): Show a progress bar for each recording.
            batch_size, num_workers (`int`, *optional*): As in every pipeline; workers decode. With `window_seconds`, a
                batch has windows of one recording, and one worker reads it.

        Returns:
            For each clip a list of `{"label": str, "score": float}`, the most likely first; the scores of all classes
            add up to 1. Of several classes a clip each score is from 0 to 1; in regression it is the number, in the
            model's order. If the best score is too low (`min_score`) or nothing is usable (`"auto"`), the list
            begins with another entry, `{"label": None, "score": float, "reason": str}`, with the best score or 0.

            With `return_embeddings` or `return_evidence` a dict with that list as `scores`, `modalities` (what the
            scores are based on), `start_seconds` and `end_seconds` (the range that was used; 0 for features without
            times), `notes` (what the reader skipped, moved or converted, which it also warns of, and the features that
            were given), and `evidence` or
            `audio_embeds` and `video_embeds` (unit vectors as numpy arrays of shape `(projection_dim,)`, None without
            the modality). For a skipped clip a dict with `error` and `error_type`. Many clips give a list of these;
            generators and datasets an iterator.

            With `window_seconds`, for each recording a list of segments, one for each stride:

            - `start_seconds`, `end_seconds` (`float`): half open, on the time axis of the recording;
            - `label` (`str`, or None if the score is too low or nothing is usable) and `score`, the best one, or 0;
              in regression both are None;
            - `scores`: as for a clip; empty if nothing is usable;
            - `modalities`: what they are based on, a subset of `("audio", "video")`;
            - `evidence`: what this segment contains; `reason` (`str`, *optional*): why the label is None.

            With `stream`, an iterator over them. A skipped recording gives a dict with `error`, `error_type` and the
            `segments` before the error; with `stream`, the last item is a dict with `error` and `error_type`.

        Raises:
            MediaError: If a clip cannot be read and `on_error` is `"raise"`.
            ValueError: If an argument has none of the values above.
        """
        try:
            return self._predict(inputs, **kwargs)
        except MediaError as error:  # its message needs no traceback of all that reads
            raise error.with_traceback(None) from error.__cause__

    def _predict(self, inputs: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, list | tuple) and not inputs:
            return []
        inputs = _as_stream(inputs)
        settings = {name: value for name, value in kwargs.items() if name not in ("batch_size", "num_workers")}
        preprocess, _, postprocess = self._sanitize_parameters(**settings)
        preprocess = {**self._preprocess_params, **preprocess}
        if "window_seconds" not in preprocess:
            for name in TIMELINE_SETTINGS:
                if name in preprocess:
                    raise ValueError(f"`{name}` needs `window_seconds`, the length of a window; give that too.")
            return super().__call__(inputs, **kwargs)

        postprocess = {**self._postprocess_params, **postprocess}
        check_windows(**preprocess, return_embeddings=postprocess.get("return_embeddings", False))
        predict = self._timeline_predictor(
            preprocess,
            postprocess,
            batch_size=kwargs.get("batch_size") or self._batch_size or 1,
            num_workers=kwargs.get("num_workers") or self._num_workers or 0,
        )
        if isinstance(inputs, list):
            return [predict(recording) for recording in inputs]
        if isinstance(inputs, Dataset) and hasattr(inputs, "__len__"):
            return (predict(inputs[index]) for index in range(len(inputs)))
        if isinstance(inputs, IterableDataset) or inspect.isgenerator(inputs):
            return (predict(recording) for recording in inputs)
        return predict(inputs)

    def _timeline_predictor(
        self, settings: dict[str, Any], postprocess: dict[str, Any], *, batch_size: int, num_workers: int
    ) -> Callable[[Any], Any]:
        """A function that predicts one recording window by window."""

        def score(clips: list[Any]) -> torch.Tensor:
            return self._probabilities(self.forward({"clip": clips})["logits"])

        def describe(probabilities: torch.Tensor | None, reason: str | None) -> dict[str, Any]:
            if probabilities is None:
                return {"label": None, "score": 0.0, "reason": reason, "scores": []}
            named = named_scores(probabilities, self.model.config, postprocess.get("top_k"))
            return {**label_of(named, self.model.config, postprocess.get("min_score")), "scores": named}

        show_progress = settings.get("progress", False)
        timeline = TimelinePredictor(
            self._reading(settings), score, describe, batch_size, num_workers, show_progress=show_progress
        )
        predict_one = timeline.segments_and_error if postprocess.get("on_error") == "skip" else timeline.segments

        def predict(recording: Any) -> Any:
            segments = predict_one(recording)
            if settings.get("stream"):
                return segments
            result = list(segments)
            return {**result.pop(), "segments": result} if result and "error" in result[-1] else result

        return predict

    def _reading(self, settings: dict[str, Any]) -> Callable[[Any], Iterator[PendingWindow]]:
        """The function that reads the windows of a recording; without the model, for the workers."""
        own = ("modality", "detect_speech")
        faces = reader_of_faces(self.processor, settings.get("faces", "auto"), settings.get("modality", "both"))
        reader = WindowReader(
            self.processor,
            self.model.config.shortest_sound,
            takes_features=features_taken(self.model.config),
            **{name: settings[name] for name in own if name in settings},
            **faces,
        )
        others = (*own, "faces", "stream", "progress", "return_evidence")
        rest = {name: settings[name] for name in settings if name not in others}
        if "window_seconds" in rest:
            return functools.partial(reader.timeline, **rest)
        return functools.partial(reader.whole, with_evidence=settings.get("return_evidence", False), **rest)

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> "_Results":
        """The results of many clips in their order; their windows share batches and are read by all workers.

        That of transformers reads chunks in one worker only.
        """
        num_inputs = len(inputs) if hasattr(inputs, "__len__") else None
        num_workers = 0 if num_inputs == 1 else min(num_workers, num_inputs or 1)
        loader = DataLoader(
            WindowStream(inputs, self._reading(preprocess_params)),
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=num_workers,
            prefetch_factor=max(batch_size, 2) if num_workers else None,
        )
        return _Results(functools.partial(self._results, loader, batch_size, postprocess_params), num_inputs)

    def _results(self, loader: DataLoader, batch_size: int, postprocess_params: dict[str, Any]) -> Iterator[Any]:
        parts: dict[int, list[dict[str, Any]]] = {}  # outputs of the windows so far, by clip
        complete: set[int] = set()
        next_clip = 0
        windows = iter(loader)
        while batch := list(itertools.islice(windows, batch_size)):
            outputs = self._outputs([window for _, window in batch])
            for (clip, window), output in zip(batch, outputs, strict=True):
                parts.setdefault(clip, []).append(output)
                if isinstance(window, Exception) or window.is_last:
                    complete.add(clip)
            while next_clip in complete:
                yield self.postprocess(parts.pop(next_clip), **postprocess_params)
                next_clip += 1

    def _outputs(self, windows: list[PendingWindow | Exception]) -> list[dict[str, Any]]:
        """For each window its `segment` with scores, and its embeddings, or its `error`."""
        outputs: list[dict[str, Any]] = [
            {"error": window} if isinstance(window, Exception) else {"segment": window.segment, "notes": window.notes}
            for window in windows
        ]
        clips = {row: getattr(window, "clip", None) for row, window in enumerate(windows)}
        clips = {row: clip for row, clip in clips.items() if clip is not None}
        if clips:
            result = self.forward({"clip": list(clips.values())})
            scores = self._probabilities(result["logits"])
            for place, row in enumerate(clips):
                outputs[row] |= {name: result[name][place] for name in ("audio_embeds", "video_embeds")}
                outputs[row]["segment"] = replace(outputs[row]["segment"], scores=scores[place])
        return outputs

    def _sanitize_parameters(
        self,
        modality: str | None = None,
        frames_per_second: float | None = None,
        on_error: str | None = None,
        top_k: int | None = None,
        return_embeddings: bool | None = None,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
        crop_box: Sequence[int] | None = None,
        sampling_rate: int | None = None,
        min_score: float | None = None,
        return_evidence: bool | None = None,
        detect_speech: bool | None = None,
        window_seconds: float | None = None,
        stride_seconds: float | None = None,
        stream: bool | None = None,
        progress: bool | None = None,
        first_seconds: float | None = None,
        max_pixels: int | None = None,
        faces: str | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        max_seconds = {"max_seconds": kwargs.pop("max_seconds")} if "max_seconds" in kwargs else {}
        if kwargs:
            raise ValueError(f"Unknown arguments of the audio-video-emotion pipeline: {', '.join(sorted(kwargs))}.")
        _check_choice("modality", modality, MODALITIES)
        _check_choice("on_error", on_error, ("raise", "skip"))
        _check_choice("faces", faces, FACES)
        if top_k is not None and top_k < 1:
            raise ValueError(f"`top_k` must be 1 or more, got {top_k}.")
        if min_score is not None and not 0 <= min_score <= 1:
            raise ValueError(f"`min_score` must be between 0 and 1, got {min_score}.")
        for name, value in {"min_score": min_score, "top_k": top_k}.items():
            if value is not None and is_regression(self.model.config):
                raise ValueError(f"`{name}` is for probabilities, but this model predicts numbers (regression).")
        if first_seconds is not None and not first_seconds > 0:
            raise ValueError(f"`first_seconds` must be above 0, got {first_seconds}.")
        preprocess = {
            "modality": modality,
            "frames_per_second": frames_per_second,
            "start_seconds": start_seconds,
            "end_seconds": end_seconds,
            "crop_box": crop_box,
            "sampling_rate": sampling_rate,
            "return_evidence": return_evidence,
            "detect_speech": detect_speech,
            "window_seconds": window_seconds,
            "stride_seconds": stride_seconds,
            "stream": stream,
            "progress": progress,
            "first_seconds": first_seconds,
            "max_pixels": max_pixels,
            "faces": faces,
        }
        postprocess = {
            "top_k": top_k,
            "min_score": min_score,
            "return_embeddings": return_embeddings,
            "return_evidence": return_evidence,
            "on_error": on_error,
        }
        return given(preprocess) | max_seconds, {}, given(postprocess)

    def preprocess(self, inputs: Any, **settings: Any) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Read one clip: a dict with `clip` for each of its windows."""
        for window in self._reading(settings)(inputs):
            yield {"clip": window.clip, "window": window, "is_last": window.is_last}

    def _forward(self, model_inputs: dict[str, Any]) -> ModelOutput:  # type: ignore[override]
        """Run a list of clips as one batch."""
        batch = self.processor.batch(_as_list(model_inputs["clip"])).to(self.device, self.dtype)
        result = self.model(**batch)
        return ModelOutput({name: result[name].float().cpu() for name in ("logits", "audio_embeds", "video_embeds")})

    def postprocess(  # type: ignore[override]
        self,
        model_outputs: list[dict[str, Any]],
        top_k: int | None = None,
        min_score: float | None = None,
        return_embeddings: bool = False,
        return_evidence: bool = False,
        on_error: str = "raise",
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """The outputs of all windows of one clip to labels and scores."""
        error = model_outputs[-1].get("error")
        if error is not None and on_error == "raise":
            raise_copy_of(error)
        if error is not None:
            return {"error": str(error), "error_type": type(error).__name__}
        whole = merge_into_one([output["segment"] for output in model_outputs])
        emotions = self._named(whole.scores, whole.reason, top_k, min_score)
        if not return_embeddings and not return_evidence:
            return emotions
        result: dict[str, Any] = {"scores": emotions}
        for name in ("audio", "video") if return_embeddings else ():
            having = [output for output in model_outputs if name in output["segment"].modalities]
            embeds = [output[f"{name}_embeds"] for output in having]
            mean = weighted_mean(embeds, [output["segment"] for output in having]) if having else None
            result[f"{name}_embeds"] = None if mean is None else (mean / mean.norm()).numpy()
        result |= {"modalities": whole.modalities}
        result |= {name: round(getattr(whole, name), 6) for name in ("start_seconds", "end_seconds")}
        result["notes"] = list(model_outputs[-1]["notes"])
        return result | {"evidence": whole.evidence} if return_evidence else result

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        # A checkpoint may carry a config class from before there was a temperature.
        return scores_of(logits, self.model.config)

    def _named(
        self, probabilities: torch.Tensor | None, reason: str | None, top_k: int | None, min_score: float | None
    ) -> list[dict[str, Any]]:
        """Labels and scores, the most likely first; if no label is certain enough, an entry without one before them."""
        if probabilities is None:
            return [{"label": None, "score": 0.0, "reason": reason}]
        emotions = named_scores(probabilities, self.model.config, top_k)
        unsure = None if min_score is None else label_of(emotions, self.model.config, min_score)
        return emotions if unsure is None or unsure["label"] is not None else [unsure, *emotions]

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save model and processor; `pipeline(model=save_directory)` loads them again."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class _Results:
    """An iterator over results that may have a length, as that of every pipeline."""

    def __init__(self, iterate: Callable[[], Iterator[Any]], length: int | None) -> None:
        self._iterate, self._length = iterate, length

    def __iter__(self) -> Iterator[Any]:
        return self._iterate()

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("The number of clips is not known.")
        return self._length


class _Rows(Dataset):
    """Anything with a length as a torch dataset, which pipelines stream; an unreadable row becomes its error."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.rows[index]
        except MediaError as error:
            return error
        except UNREADABLE as error:  # `datasets` opens media files here
            return MediaError(f"row {index}", f"cannot be read ({error}).")


def _as_stream(inputs: Any) -> Any:
    """Many clips as a list, a torch dataset or a generator, which the library iterates over. One clip as it is."""
    if isinstance(inputs, list | tuple):
        clips = as_batch(inputs)
        is_one = len(clips) == 1 and clips[0] is inputs  # images or samples; the library takes a tuple for one input
        return tuple(inputs) if is_one else clips
    is_one = isinstance(inputs, str | bytes | bytearray | memoryview | dict | os.PathLike)
    is_one = is_one or any(hasattr(inputs, mark) for mark in _MARKS_OF_ONE_CLIP)
    if is_one or not (hasattr(inputs, "__iter__") or hasattr(inputs, "__getitem__")):
        return inputs
    inputs = _with_fields_of_clips_only(inputs)
    if hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__"):
        return _Rows(inputs)
    return (clip for clip in inputs)


def _with_fields_of_clips_only(rows: Any) -> Any:
    """A `datasets` dataset without columns that say nothing of a clip; anything else unchanged."""
    columns = getattr(rows, "column_names", None)
    if not isinstance(columns, list):
        return rows
    check_columns(columns)
    fields = [name for name in columns if name in CLIP_FIELDS]
    return rows.select_columns(fields) if fields else rows


def _check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    if value is not None and value not in tuple(choices):
        raise ValueError(f"`{name}` must be one of {', '.join(choices)}; got {value!r}.")


def _as_list(value: Any) -> list[Any]:
    """A batch is a list, a single clip is not."""
    return value if isinstance(value, list) else [value]


def _unchanged(item: Any) -> Any:
    """What a loader without batches collates with; by default it converts arrays."""
    return item


__all__ = ["AudioVideoEmotionPipeline"]
