"""`pipeline("audio-video-emotion")`: recordings in, emotions out."""

import copy
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Pipeline
from transformers.utils import ModelOutput, logging

from .checkpoint_foal_net import CheckpointPart
from .evidence_foal_net import measure_evidence, usable_part, why_nothing
from .recordings_foal_net import (
    MODALITIES,
    TIMELINE_SETTINGS,
    UNREADABLE,
    TimelinePredictor,
    drop_too_short_audio,
    given,
    portable,
    source_and_settings,
)
from .sources_foal_net import MediaError
from .timeline_foal_net import named_scores, probabilities_of, why_unsure
from .video_processing_foal_net import as_batch


logger = logging.get_logger(__name__)

# Things that Python can iterate over, but that are one clip: files, arrays, decoders, pictures.
_MARKS_OF_ONE_CLIP = ("read", "ndim", "metadata", "convert")


class AudioVideoEmotionPipeline(CheckpointPart, TimelinePredictor, Pipeline):
    r"""Names the emotion of a speaking person in clips with sound, picture or both.

    A clip is whatever [`read_clip`] reads (path, URL, bytes, file object, array, decoder), or a row: a dict with
    `audio` and/or `video` (each of those kinds) and optionally `start_seconds`, `end_seconds`, `audio_start_seconds`,
    `crop_box` and the `sampling_rate` of sound given as array. A `video` without the key `audio` is read for its sound
    as well; `"audio": None` says that there is none. Clips come one at a time, in lists, generators, torch datasets
    (`KeyDataset`), or as a `datasets` dataset of rows or a column of one.

    `model` may be a folder that `foal-hf export` wrote, where `foal_hf` is imported; `backend` (`"torch"`, `"openvino"`
    or `"onnx"`) then says what has to run it, and anything else is an error.

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
        runs_it = getattr(self.model, "backend", "torch")
        if backend not in (None, runs_it):
            raise ValueError(
                f"`backend` is {backend!r}, but this model runs in {runs_it}. With the package installed, "
                "`foal-hf export CHECKPOINT --format openvino` (or onnx) writes a folder to be given as `model`."
            )
        self.processor: Any
        if self.processor is None:
            raise ValueError(
                "The pipeline needs a processor: give `processor=`, or a `model` whose folder or repository holds one."
            )
        self.tokenizer = None  # the processor's is a stub, for Trainer
        if getattr(self.model.config, "trained_on_generated_data", False):
            logger.warning(
                "This checkpoint was trained on generated voices and drawn faces only. Its labels mean nothing on real "
                "people: give `model=` a checkpoint that was trained on them."
            )

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Name the emotion in one or many clips, or over the time of one or many recordings.

        With `window_seconds` a recording of any length is read from front to back, in the memory of a few windows, and
        judged window by window. Each moment's scores are the mean of the windows that cover it, given for every stride;
        the last window is the first that reaches the end, and may be shorter.

        Args:
            inputs: A clip, or a list, generator or dataset of clips.
            modality (`"both"`, `"audio"`, `"video"` or `"auto"`, defaults to `"both"`): What to look at. With `"both"`
                a clip that lacks one is judged by the other. `"auto"` also leaves out silent sound and black pictures.
            top_k (`int`, *optional*): Give the most likely ones only; all by default.
            min_score (`float`, *optional*): Below this, from 0 to 1, the best score counts as unsure: the label is
                None.
            return_embeddings (`bool`, defaults to `False`): Give the aligned embeddings too. Not with `window_seconds`.
            return_evidence (`bool`, defaults to `False`): Say what the answer could rest on, as `measure_evidence`
                does. With `window_seconds` it is always said.
            detect_speech (`bool`, defaults to `True`): Whether the evidence says if somebody speaks, which takes the
                extra `speech`, and time.
            on_error (`"raise"` or `"skip"`, defaults to `"raise"`): With `"skip"` a clip that cannot be read gives an
                entry that carries the error, and the others are not lost.
            frames_per_second, max_seconds (`float`, *optional*): Instead of the processor's. No `max_seconds` with
                `window_seconds`.
            start_seconds, end_seconds, crop_box, sampling_rate (*optional*): As in a row, for every clip whose row does
                not say otherwise.
            window_seconds (`float`, *optional*): Judge windows of this length instead of one clip.
            stride_seconds (`float`, *optional*): From the start of one window to that of the next; at most
                `window_seconds`, by default half of it.
            stream (`bool`, defaults to `False`): Give the segments of a recording while it is read, as an iterator.
            progress (`bool`, defaults to `False`): Show how far a recording is read.
            batch_size, num_workers (`int`, *optional*): As in every pipeline; workers decode. With `window_seconds` a
                batch is of windows of one recording, and one worker reads it.

        Returns:
            For each clip a list of `{"label": str, "score": float}`, the most likely first; scores of all classes add
            up to 1. An answer that is unsure (`min_score`), or has nothing to rest on (`"auto"`), begins with an entry
            more, `{"label": None, "score": float, "reason": str}`: the score of the likeliest, or 0. With
            `return_embeddings` or `return_evidence` a dict with that list as `scores`, `audio_embeds` and
            `video_embeds` (unit vectors as numpy arrays of shape `(projection_dim,)`, None where the clip has no such
            modality) or `evidence`, and `modalities`, what the scores rest on. For a skipped clip a dict with `error`
            and `error_type`. Many clips give a list of these; generators and datasets an iterator.

            With `window_seconds`, for each recording a list of segments, one a stride:

            - `start_seconds`, `end_seconds` (`float`): half open, on the time axis of the recording;
            - `label` (`str`, or None for unsure or nothing to judge) and `score`, that of the likeliest, or 0;
            - `scores`: the list of a clip's answer, empty where nothing was there to judge by;
            - `modalities`: what they rest on, a subset of `("audio", "video")`;
            - `evidence`: what this stride holds; `reason` (`str`, *optional*): why the label is None.

            With `stream` an iterator over them. A recording that is skipped gives a dict with `error`, `error_type` and
            the `segments` up to there; with `stream` its last item is a dict with `error` and `error_type`.

        Raises:
            MediaError: If a clip cannot be read and `on_error` is `"raise"`.
            ValueError: If an argument is none of the values above.
        """
        if isinstance(inputs, list | tuple) and not inputs:
            return []
        inputs = _as_stream(inputs)
        settings = {name: value for name, value in kwargs.items() if name not in ("batch_size", "num_workers")}
        preprocess, forward, postprocess = self._sanitize_parameters(**settings)
        preprocess = {**self._preprocess_params, **preprocess}
        if "window_seconds" not in preprocess:
            for name in TIMELINE_SETTINGS:
                if name in preprocess:
                    raise ValueError(f"`{name}` goes with `window_seconds`, the length of a window; give that too.")
            return super().__call__(inputs, **kwargs)

        return self.judge_recordings(
            inputs,
            preprocess,
            {**self._postprocess_params, **postprocess},
            skips_errors={**self._forward_params, **forward}.get("on_error") == "skip",
            batch_size=kwargs.get("batch_size") or self._batch_size or 1,
            num_workers=kwargs.get("num_workers") or self._num_workers or 0,
        )

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
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        max_seconds = {"max_seconds": kwargs.pop("max_seconds")} if "max_seconds" in kwargs else {}
        if kwargs:
            raise ValueError(f"Unknown arguments of the audio-video-emotion pipeline: {', '.join(sorted(kwargs))}.")
        _check_choice("modality", modality, MODALITIES)
        _check_choice("on_error", on_error, ("raise", "skip"))
        if top_k is not None and top_k < 1:
            raise ValueError(f"`top_k` has to be 1 or more, got {top_k}.")
        if min_score is not None and not 0 <= min_score <= 1:
            raise ValueError(f"`min_score` has to lie between 0 and 1, got {min_score}.")
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
        }
        postprocess = {
            "top_k": top_k,
            "min_score": min_score,
            "return_embeddings": return_embeddings,
            "return_evidence": return_evidence,
        }
        return given(preprocess) | max_seconds, given({"on_error": on_error}), given(postprocess)

    def preprocess(  # type: ignore[override]
        self,
        inputs: Any,
        modality: str = "both",
        return_evidence: bool = False,
        detect_speech: bool = True,
        **settings: Any,
    ) -> dict[str, Any]:
        """Read one clip: `{"clip", "error", "evidence"}`. Runs in the workers.

        There is either a clip or an error; with `modality="auto"` maybe neither. An error is handed on and not raised:
        a worker's error reaches the caller as another type.
        """
        try:
            if isinstance(inputs, Exception):
                raise inputs
            clip = self._without_blip(self._read(inputs, MODALITIES[modality], settings))
            evidence = None
            if return_evidence or modality == "auto":
                evidence = measure_evidence(clip, detect_speech=detect_speech and return_evidence)
            if evidence is not None and modality == "auto":
                clip = usable_part(clip, evidence)
            return {"clip": clip, "error": None, "evidence": evidence}
        except UNREADABLE as error:
            return {"clip": None, "error": portable(error), "evidence": None}

    def _read(self, inputs: Any, modalities: tuple[str, ...], settings: dict[str, Any]) -> Any:
        source, settings = source_and_settings(inputs, settings)
        rate = settings.pop("sampling_rate", None)
        return self.processor.read(**source, source_sampling_rate=rate, modalities=modalities, **settings)

    def _without_blip(self, clip: Any) -> Any:
        shortest = self.model.config.shortest_sound
        kept = drop_too_short_audio(clip, shortest)
        if kept is None:
            raise ValueError(
                f"The sound has {len(clip.waveform)} samples at {clip.sampling_rate} Hz, the model needs at least "
                f"{shortest}; give a longer clip."
            )
        return kept

    def _forward(  # type: ignore[override]
        self, model_inputs: dict[str, Any], on_error: str = "raise"
    ) -> ModelOutput:
        """Run the clips that could be read as one batch; the others keep NaN in their rows."""
        clips, errors = _as_list(model_inputs["clip"]), _as_list(model_inputs["error"])
        for error in errors:
            if error is not None and on_error == "raise":
                # A copy: this call's frames hold the original, and in a circle with its own traceback it would keep the
                # workers alive until the garbage is collected, which then waits five seconds for them.
                raise copy.copy(error).with_traceback(error.__traceback__) from error.__cause__
        rows = [row for row, clip in enumerate(clips) if clip is not None]
        config: Any = self.model.config
        output = ModelOutput(
            logits=torch.full((len(clips), config.num_labels), torch.nan),
            audio_embeds=torch.full((len(clips), config.projection_dim), torch.nan),
            video_embeds=torch.full((len(clips), config.projection_dim), torch.nan),
            modalities=[() if clip is None else clip.modalities for clip in clips],
            evidence=_as_list(model_inputs.get("evidence", [None] * len(clips))),
            error=errors,
        )
        if rows:
            batch = self.processor.batch([clips[row] for row in rows]).to(self.device, self.dtype)
            result = self.model(**batch)
            for name in ("logits", "audio_embeds", "video_embeds"):
                output[name][rows] = result[name].float().cpu()
        return output

    def postprocess(  # type: ignore[override]
        self,
        model_outputs: ModelOutput,
        top_k: int | None = None,
        min_score: float | None = None,
        return_embeddings: bool = False,
        return_evidence: bool = False,
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """One clip's numbers to labels and scores."""
        error, modalities, evidence = (_only(model_outputs[name]) for name in ("error", "modalities", "evidence"))
        if error is not None:
            return {"error": str(error), "error_type": type(error).__name__}
        probabilities = self._probabilities(model_outputs["logits"][0]) if modalities else None
        reason = None if modalities else why_nothing(evidence)
        emotions = self._named(probabilities, reason, top_k, min_score)
        if not return_embeddings and not return_evidence:
            return emotions
        result: dict[str, Any] = {"scores": emotions}
        for name in ("audio", "video") if return_embeddings else ():
            result[f"{name}_embeds"] = model_outputs[f"{name}_embeds"][0].numpy() if name in modalities else None
        result["modalities"] = modalities
        return result | {"evidence": evidence} if return_evidence else result

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        # A checkpoint may carry a config class from before there was a temperature.
        return probabilities_of(logits, getattr(self.model.config, "calibration_temperature", None))

    def _named(
        self, probabilities: torch.Tensor | None, reason: str | None, top_k: int | None, min_score: float | None
    ) -> list[dict[str, Any]]:
        """Labels and scores, the most likely first; before them an entry without label where there is no clear one."""
        if probabilities is None:
            return [{"label": None, "score": 0.0, "reason": reason}]
        config: Any = self.model.config
        emotions = named_scores(probabilities, config.id2label, top_k)
        best = emotions[0]["score"]
        unsure = why_unsure(best, min_score)
        return emotions if unsure is None else [{"label": None, "score": best, "reason": unsure}, *emotions]

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Save model and processor, whose files say how to make this pipeline from them."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class _Rows(Dataset):
    """Anything with a length as the torch dataset that pipelines stream; what cannot be had becomes its error."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.rows[index]
        except MediaError as error:
            return error
        except UNREADABLE as error:  # `datasets` opens the media of its rows here
            return MediaError(f"row {index}", f"cannot be read ({error}).")


def _as_stream(inputs: Any) -> Any:
    """Many clips as what the library takes for many: a list, a torch dataset or a generator. One clip as it is."""
    if isinstance(inputs, list | tuple):
        clips = as_batch(inputs)
        is_one = len(clips) == 1 and clips[0] is inputs  # pictures or samples; the library takes a tuple for one input
        return tuple(inputs) if is_one else clips
    is_one = isinstance(inputs, str | bytes | bytearray | memoryview | dict | os.PathLike)
    is_one = is_one or any(hasattr(inputs, mark) for mark in _MARKS_OF_ONE_CLIP)
    if is_one or not (hasattr(inputs, "__iter__") or hasattr(inputs, "__getitem__")):
        return inputs
    if hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__"):
        return _Rows(inputs)
    return (clip for clip in inputs)


def _check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    if value is not None and value not in tuple(choices):
        raise ValueError(f"`{name}` has to be one of {', '.join(choices)}; got {value!r}.")


def _as_list(value: Any) -> list[Any]:
    """A batch comes as a list, a single clip as itself."""
    return value if isinstance(value, list) else [value]


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


__all__ = ["AudioVideoEmotionPipeline"]
