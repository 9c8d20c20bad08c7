"""`pipeline("audio-video-emotion")`: recordings in, emotions out."""

import copy
import os
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Pipeline
from transformers.utils import ModelOutput, logging

from .checkpoint_foal_net import CheckpointPart
from .sources_foal_net import MediaError
from .video_processing_foal_net import as_batch


logger = logging.get_logger(__name__)

_MODALITIES = {"both": ("audio", "video"), "audio": ("audio",), "video": ("video",)}
# What a row (a dict) may say of its clip; other columns are not looked at.
_CLIP_FIELDS = ("start_seconds", "end_seconds", "audio_start_seconds", "crop_box", "sampling_rate")
# What reading a clip may raise. A missing decoder (ImportError) is no fault of the clip.
_UNREADABLE = (ValueError, TypeError, OSError, RuntimeError, LookupError)
# Things that Python can iterate over, but that are one clip: files, arrays, decoders, pictures.
_MARKS_OF_ONE_CLIP = ("read", "ndim", "metadata", "convert")


class AudioVideoEmotionPipeline(CheckpointPart, Pipeline):
    r"""Names the emotion of a speaking person in clips with sound, picture or both.

    A clip is whatever [`read_clip`] reads (path, URL, bytes, file object, array, decoder), or a row: a dict with
    `audio` and/or `video` (each of those kinds) and optionally `start_seconds`, `end_seconds`, `audio_start_seconds`,
    `crop_box` and the `sampling_rate` of sound given as array. A `video` without the key `audio` is read for its sound
    as well; `"audio": None` says that there is none. Clips come one at a time, in lists, generators, torch datasets
    (`KeyDataset`), or as a `datasets` dataset of rows or a column of one.

    Example:

    ```python
    >>> import foal_hf
    >>> from transformers import pipeline

    >>> classify = pipeline("audio-video-emotion", model="org/foal-net")
    >>> classify("clip.mp4", top_k=2)
    [{'label': 'happy', 'score': 0.93}, {'label': 'neutral', 'score': 0.04}]
    ```
    """

    _load_processor = True  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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
        """Name the emotion in one or many clips.

        Args:
            inputs: A clip, or a list, generator or dataset of clips.
            modality (`"both"`, `"audio"` or `"video"`, defaults to `"both"`): What to look at. With `"both"` a clip
                that lacks one is judged by the other.
            top_k (`int`, *optional*): Give the most likely ones only; all by default.
            return_embeddings (`bool`, defaults to `False`): Give the aligned embeddings too.
            on_error (`"raise"` or `"skip"`, defaults to `"raise"`): With `"skip"` a clip that cannot be read gives an
                entry that carries the error, and the others are not lost.
            frames_per_second, max_seconds (`float`, *optional*): Instead of the processor's.
            start_seconds, end_seconds, crop_box, sampling_rate (*optional*): As in a row, for every clip whose row does
                not say otherwise.
            batch_size, num_workers (`int`, *optional*): As in every pipeline; workers decode.

        Returns:
            For each clip a list of `{"label": str, "score": float}`, the most likely first; scores of all classes add
            up to 1. With `return_embeddings` a dict with that list as `scores`, `audio_embeds` and `video_embeds` (unit
            vectors as numpy arrays of shape `(projection_dim,)`, None where the clip has no such modality) and
            `modalities`. For a skipped clip a dict with `error` and `error_type`. Many clips give a list of these;
            generators and datasets an iterator.

        Raises:
            MediaError: If a clip cannot be read and `on_error` is `"raise"`.
            ValueError: If an argument is none of the values above.
        """
        if isinstance(inputs, list | tuple) and not inputs:
            return []
        return super().__call__(_as_stream(inputs), **kwargs)

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
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        max_seconds = {"max_seconds": kwargs.pop("max_seconds")} if "max_seconds" in kwargs else {}
        if kwargs:
            raise ValueError(f"Unknown arguments of the audio-video-emotion pipeline: {', '.join(sorted(kwargs))}.")
        _check_choice("modality", modality, _MODALITIES)
        _check_choice("on_error", on_error, ("raise", "skip"))
        if top_k is not None and top_k < 1:
            raise ValueError(f"`top_k` has to be 1 or more, got {top_k}.")
        preprocess = {
            "modality": modality,
            "frames_per_second": frames_per_second,
            "start_seconds": start_seconds,
            "end_seconds": end_seconds,
            "crop_box": crop_box,
            "sampling_rate": sampling_rate,
        }
        postprocess = {"top_k": top_k, "return_embeddings": return_embeddings}
        return _given(preprocess) | max_seconds, _given({"on_error": on_error}), _given(postprocess)

    def preprocess(  # type: ignore[override]
        self, inputs: Any, modality: str = "both", **settings: Any
    ) -> dict[str, Any]:
        """Read one clip: `{"clip", "error"}`, one of them None. Runs in the workers.

        An error is handed on and not raised: a worker's error reaches the caller as another type.
        """
        try:
            if isinstance(inputs, Exception):
                raise inputs
            clip = self._without_blip(self._read(inputs, _MODALITIES[modality], settings))
            return {"clip": clip, "error": None}
        except _UNREADABLE as error:
            return {"clip": None, "error": _portable(error)}

    def _read(self, inputs: Any, modalities: tuple[str, ...], settings: dict[str, Any]) -> Any:
        source: dict[str, Any] = {"source": inputs}
        if isinstance(inputs, dict):
            settings = settings | _given({name: inputs.get(name) for name in _CLIP_FIELDS})
            if "audio" in inputs:
                source = {"audio": inputs["audio"], "video": inputs.get("video")}
            elif "video" in inputs:
                source = {"source": inputs["video"]}
            elif not inputs.keys() & {"path", "bytes", "array"}:
                raise ValueError(f"A row has to have `audio` or `video`, got one with {', '.join(map(str, inputs))}.")
        rate = settings.get("sampling_rate")
        settings = {name: value for name, value in settings.items() if name != "sampling_rate"}
        return self.processor.read(**source, source_sampling_rate=rate, modalities=modalities, **settings)

    def _without_blip(self, clip: Any) -> Any:
        """The clip without a sound that is shorter than one step of the audio encoder, which hears nothing in it."""
        shortest = self.model.config.shortest_sound
        if clip.waveform is None or len(clip.waveform) >= shortest:
            return clip
        if clip.frames is None:
            raise ValueError(
                f"The sound has {len(clip.waveform)} samples at {clip.sampling_rate} Hz, the model needs at least "
                f"{shortest}; give a longer clip."
            )
        return replace(clip, waveform=None, sampling_rate=None)

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
            error=errors,
        )
        if rows:
            batch = self.processor.batch([clips[row] for row in rows]).to(self.device, self.dtype)
            result = self.model(**batch)
            for name in ("logits", "audio_embeds", "video_embeds"):
                output[name][rows] = result[name].float().cpu()
        return output

    def postprocess(  # type: ignore[override]
        self, model_outputs: ModelOutput, top_k: int | None = None, return_embeddings: bool = False
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """One clip's numbers to labels and scores."""
        error, modalities = (_only(model_outputs[name]) for name in ("error", "modalities"))
        if error is not None:
            return {"error": str(error), "error_type": type(error).__name__}
        config: Any = self.model.config
        probabilities = model_outputs["logits"][0].softmax(dim=-1)
        scores, indices = probabilities.sort(descending=True)
        names = config.id2label
        emotions = [
            {"label": names[index], "score": score}
            for score, index in zip(scores.tolist()[:top_k], indices.tolist()[:top_k], strict=True)
        ]
        if not return_embeddings:
            return emotions
        embeds = {
            f"{name}_embeds": model_outputs[f"{name}_embeds"][0].numpy() if name in modalities else None
            for name in ("audio", "video")
        }
        return {"scores": emotions, **embeds, "modalities": modalities}

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
        except _UNREADABLE as error:  # `datasets` opens the media of its rows here
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


def _portable(error: Exception) -> Exception:
    """The error if it can travel from a worker's process; else one that says the same."""
    try:
        pickle.dumps(copy.copy(error))  # a copy is made as at the other end
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    if value is not None and value not in tuple(choices):
        raise ValueError(f"`{name}` has to be one of {', '.join(choices)}; got {value!r}.")


def _as_list(value: Any) -> list[Any]:
    """A batch comes as a list, a single clip as itself."""
    return value if isinstance(value, list) else [value]


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


__all__ = ["AudioVideoEmotionPipeline"]
