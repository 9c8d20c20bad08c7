"""`pipeline("audio-video-emotion")`: recordings in, emotions out."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Pipeline
from transformers.utils import ModelOutput, logging

logger = logging.get_logger(__name__)

_MODALITIES = {"both": ("audio", "video"), "audio": ("audio",), "video": ("video",)}
# What a row (a dict) may say of its clip; other columns are not looked at.
_CLIP_FIELDS = ("start_seconds", "end_seconds", "crop_box")


class AudioVideoEmotionPipeline(Pipeline):
    r"""Names the emotion of a speaking person in clips with sound, picture or both.

    A clip is whatever [`read_clip`] reads (path, URL, bytes, file object, array, decoder), or a row: a dict with `audio`
    and/or `video` (each of those kinds) and optionally `start_seconds`, `end_seconds`, `crop_box` and the `sampling_rate`
    of sound given as array. Clips come one at a time, in lists, generators, torch datasets (`KeyDataset`) or a
    `datasets.Dataset` of rows.

    Example:

    ```python
    >>> import foal_hf
    >>> from transformers import pipeline

    >>> classify = pipeline("audio-video-emotion", model="org/foal-net")
    >>> classify("clip.mp4", top_k=2)
    [{'label': 'happy', 'score': 0.93}, {'label': 'neutral', 'score': 0.04}]
    ```
    """

    _load_processor = True
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Name the emotion in one or many clips.

        Args:
            inputs: A clip, or a list, generator or dataset of clips.
            modality (`"both"`, `"audio"` or `"video"`, defaults to `"both"`): What to look at. With `"both"` a clip that
                lacks one is judged by the other.
            top_k (`int`, *optional*): Give the most likely ones only; all by default.
            return_embeddings (`bool`, defaults to `False`): Give the aligned embeddings too.
            on_error (`"raise"` or `"skip"`, defaults to `"raise"`): With `"skip"` a clip that cannot be read gives an
                entry that carries the error, and the others are not lost.
            frames_per_second, max_seconds (`float`, *optional*): Instead of the processor's.
            batch_size, num_workers (`int`, *optional*): As in every pipeline; workers decode.

        Returns:
            For each clip a list of `{"label": str, "score": float}`, the most likely first; scores of all classes add up
            to 1. With `return_embeddings` a dict with that list as `scores`, `audio_embeds` and `video_embeds` (unit
            vectors as numpy arrays of shape `(projection_dim,)`, None where the clip has no such modality) and
            `modalities`. For a skipped clip a dict with `error` and `error_type`. Many clips give a list of these;
            generators and datasets an iterator.

        Raises:
            MediaError: If a clip cannot be read and `on_error` is `"raise"`.
            ValueError: If an argument is none of the values above.
        """
        if isinstance(inputs, list) and not inputs:
            return []
        if hasattr(inputs, "features") and hasattr(inputs, "__getitem__") and not isinstance(inputs, Dataset):
            inputs = _Rows(inputs)
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self,
        modality: str | None = None,
        frames_per_second: float | None = None,
        on_error: str | None = None,
        top_k: int | None = None,
        return_embeddings: bool | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        max_seconds = {"max_seconds": kwargs.pop("max_seconds")} if "max_seconds" in kwargs else {}
        if kwargs:
            raise ValueError(f"Unknown arguments of the audio-video-emotion pipeline: {', '.join(sorted(kwargs))}.")
        _check_choice("modality", modality, _MODALITIES)
        _check_choice("on_error", on_error, ("raise", "skip"))
        if top_k is not None and top_k < 1:
            raise ValueError(f"`top_k` has to be 1 or more, got {top_k}.")
        preprocess = {"modality": modality, "frames_per_second": frames_per_second, "on_error": on_error}
        postprocess = {"top_k": top_k, "return_embeddings": return_embeddings}
        return _given(preprocess) | max_seconds, {}, _given(postprocess)

    def preprocess(
        self, inputs: Any, modality: str = "both", on_error: str = "raise", **settings: Any
    ) -> dict[str, Any]:
        """Read one clip: `{"clip", "error"}`, one of them None. Runs in the workers."""
        try:
            return {"clip": self._read(inputs, _MODALITIES[modality], settings), "error": None}
        except (ValueError, TypeError, OSError) as error:
            if on_error == "raise":
                raise
            return {"clip": None, "error": error}

    def _read(self, inputs: Any, modalities: tuple[str, ...], settings: dict[str, Any]) -> Any:
        if not (isinstance(inputs, dict) and ("audio" in inputs or "video" in inputs)):
            return self.processor.read(inputs, modalities=modalities, **settings)
        row = _given({name: inputs.get(name) for name in _CLIP_FIELDS})
        return self.processor.read(
            audio=inputs.get("audio"),
            video=inputs.get("video"),
            source_sampling_rate=inputs.get("sampling_rate"),
            modalities=modalities,
            **row,
            **settings,
        )

    def _forward(self, model_inputs: dict[str, Any]) -> ModelOutput:
        """Run the clips that could be read as one batch; the others keep NaN in their rows."""
        clips, errors = _as_list(model_inputs["clip"]), _as_list(model_inputs["error"])
        rows = [row for row, clip in enumerate(clips) if clip is not None]
        config = self.model.config
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

    def postprocess(
        self, model_outputs: ModelOutput, top_k: int | None = None, return_embeddings: bool = False
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """One clip's numbers to labels and scores."""
        error, modalities = (_only(model_outputs[name]) for name in ("error", "modalities"))
        if error is not None:
            return {"error": str(error), "error_type": type(error).__name__}
        probabilities = model_outputs["logits"][0].softmax(dim=-1)
        scores, indices = probabilities.sort(descending=True)
        names = self.model.config.id2label
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
        """Save model, processor and this pipeline's code; the library's own version leaves the processor out."""
        feature_extractor, self.feature_extractor = self.feature_extractor, None  # part of the processor's file
        try:
            super().save_pretrained(save_directory, **kwargs)
        finally:
            self.feature_extractor = feature_extractor
        self.processor.save_pretrained(save_directory, **kwargs)


class _Rows(Dataset):
    """A `datasets.Dataset` as the torch dataset that pipelines stream."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


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
