"""Clips to model inputs: `FoalNetProcessor` bundles the audio encoder's feature extractor and our video processor."""

import os
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin
from transformers.utils import PROCESSOR_NAME

from .checkpoint_foal_net import AUTO_MAP, CheckpointPart, write_code
from .features_foal_net import SIDES, pad_features, read_features
from .image_processors_foal_net import load_image_processor
from .media_foal_net import Clip
from .rows_foal_net import MEDIA_FIELDS, check_sampling_rate_given, checked_source
from .spectrograms_foal_net import batch_spectrograms, gives_spectrograms
from .video_processing_foal_net import (
    FoalNetVideoProcessor,
    FoalNetVideoProcessorKwargs,
    as_batch,
    check_known,
    in_tensors,
)


# Where the published recipe differs: 6 s of waveform without normalization, and all of 30 frames per second.
PAPER_SETTING = {"frames_per_second": 30.0, "max_seconds": 6.0}


_PADDING_SETTINGS = ("padding", "max_length", "truncation", "pad_to_multiple_of", "return_attention_mask")


class FoalNetProcessorKwargs(ProcessingKwargs, total=False):
    """Settings of a call of [`FoalNetProcessor`] beyond those of every processor.

    Attributes:
        videos_kwargs (`dict`): See [`FoalNetVideoProcessor`].
        load_audio_from_video (`bool`): Also read the audio of `videos`, where there is some.
        source_frames_per_second (`float`, *optional*), max_bytes (`int`): As in [`read_clip`].
    """

    videos_kwargs: FoalNetVideoProcessorKwargs  # type: ignore[misc]
    load_audio_from_video: bool
    source_frames_per_second: float | int | None
    max_bytes: int


class FoalNetBatchFeature(BatchFeature):
    """The inputs of a batch; also knows which modalities each clip has."""

    @property
    def modalities(self) -> list[tuple[str, ...]]:
        """For each clip a subset of `("audio", "video")`."""
        masks = {"audio": self.get("attention_mask"), "video": self.get("padding_mask_videos")}
        present = {name: mask.any(1).tolist() for name, mask in masks.items() if mask is not None}
        rows = len(next(iter(present.values())))
        return [tuple(name for name in present if present[name][row]) for row in range(rows)]


class _CheckpointProcessor(CheckpointPart, ProcessorMixin):
    """A processor that is saved with its code; the common tests of transformers look at the first base class."""

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; what is only said in files does not stay on the processor."""
        if None in (self.feature_extractor, self.video_processor):  # transformers would save None as a part
            written = self._save_without_a_part(save_directory)
            if kwargs.get("push_to_hub") or (args and args[0]):
                self.push_to_hub(kwargs.get("repo_id") or os.path.basename(save_directory))
        else:
            written = super().save_pretrained(save_directory, *args, **kwargs)
        self.__dict__.pop("auto_map", None)
        return written

    def _save_without_a_part(self, save_directory: Any) -> list[str]:
        os.makedirs(save_directory, exist_ok=True)
        self.auto_map = {"AutoProcessor": AUTO_MAP["AutoProcessor"]}
        path = os.path.join(save_directory, PROCESSOR_NAME)
        self.to_json_file(path)
        write_code(save_directory)
        return [path]


class FoalNetProcessor(_CheckpointProcessor):
    r"""Audio and video of one or many clips to the inputs of Foal-Net.

    Args:
        feature_extractor (`SequenceFeatureExtractor`, *optional*): The audio encoder's own. None for a checkpoint that
            takes `audio_features` instead: the processor then reads no audio.
        video_processor ([`FoalNetVideoProcessor`], *optional*): Holds `frames_per_second` and `max_seconds` for both
            modalities. None for a checkpoint that takes features of both.

    Example:

    ```python
    >>> from foal_hf import FoalNetProcessor

    >>> processor = FoalNetProcessor.from_encoders_pretrained("microsoft/wavlm-large", "openai/clip-vit-large-patch14")
    >>> inputs = processor(videos=["one.mp4", "two.mp4"], load_audio_from_video=True)
    >>> sorted(inputs)
    ['attention_mask', 'input_values', 'padding_mask_videos', 'pixel_values_videos']
    >>> inputs.modalities
    [('audio', 'video'), ('video',)]
    ```
    """

    _auto_class = "AutoProcessor"  # saved with its code
    valid_processor_kwargs = FoalNetProcessorKwargs  # type: ignore[assignment]
    # Trainer and its checkpoints look for special tokens on their `processing_class`.
    tokenizer = SimpleNamespace(
        eos_token_id=None, bos_token_id=None, pad_token_id=None, init_kwargs={}, special_tokens_map={}
    )

    def __init__(self, feature_extractor: Any = None, video_processor: Any = None) -> None:
        if feature_extractor is not None and video_processor is None:
            raise ValueError("`video_processor` is None; expected one that holds the length of a clip, also for audio.")
        super().__init__(feature_extractor, video_processor)

    @classmethod
    def from_encoders_pretrained(
        cls, audio_encoder: str | None, vision_encoder: str | None, *, setting: str = "default", **kwargs: Any
    ) -> "FoalNetProcessor":
        """The processor for two pretrained encoders.

        Args:
            audio_encoder (`str`, *optional*): Hub name or folder of the audio encoder, for its feature extractor. None
                for a model that takes audio features.
            vision_encoder (`str`, *optional*): Hub name or folder of the image encoder, for its image processor. None
                for a model that takes video features.
            setting (`"default"` or `"paper"`): `"paper"` takes 30 frames per second and does not normalize the
                waveform, whatever the checkpoint says, as published; spectrograms stay as their encoder was trained.
            **kwargs: Fields of [`FoalNetVideoProcessor`], such as `frames_per_second` and `max_seconds`.

        Raises:
            ValueError: If `setting` is neither.
        """
        if setting not in ("default", "paper"):
            raise ValueError(f"`setting` must be 'default' or 'paper', got {setting!r}.")
        if setting == "paper":
            kwargs = {**PAPER_SETTING, **kwargs}
        if audio_encoder is None and vision_encoder is None:
            return cls()
        feature_extractor = None if audio_encoder is None else AutoFeatureExtractor.from_pretrained(audio_encoder)
        if setting == "paper" and feature_extractor is not None and not gives_spectrograms(feature_extractor):
            feature_extractor.do_normalize = False
        if vision_encoder is None:  # it still holds the maximum length of the audio
            return cls(feature_extractor, FoalNetVideoProcessor(**kwargs))
        image_processor = load_image_processor(vision_encoder)
        return cls(feature_extractor, FoalNetVideoProcessor.from_image_processor(image_processor, **kwargs))

    @property
    def sampling_rate(self) -> int:
        """Sampling rate of the audio encoder, Hz."""
        return self.feature_extractor.sampling_rate

    @property
    def frames_per_second(self) -> float:
        """Frames taken from each second of video."""
        return self.video_processor.frames_per_second

    @property
    def max_seconds(self) -> float | None:
        """Maximum length of a clip; longer clips are cut. None for no limit."""
        return getattr(self.video_processor, "max_seconds", None)

    @property
    def model_input_names(self) -> list[str]:
        """The keys that a call can return."""
        extractor = self.feature_extractor
        audio = "audio_features" if extractor is None else extractor.model_input_names[0]
        video = getattr(self.video_processor, "model_input_names", ["video_features", "padding_mask_videos"])
        return [audio, "attention_mask", *video]

    def __call__(
        self,
        audio: Any = None,
        videos: Any = None,
        *,
        start_seconds: float | Sequence[float] | None = None,
        end_seconds: float | Sequence[float | None] | None = None,
        crop_box: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> FoalNetBatchFeature:
        """Read and prepare one or many clips.

        Args:
            audio: The audio of a clip, or a list; an entry may be None. Path, URL, bytes, file object, array,
                torchcodec decoder, or a row of a `datasets` Audio column; of a video file the audio is read.
            videos: The video of a clip, or a list; an entry may be None. Types as for `audio`.
            start_seconds, end_seconds (`float` or a list of them, *optional*): Range of the file that is the clip,
                half open, in seconds.
            crop_box (`(left, top, right, bottom)` or a list of them, *optional*): Region of the frames, in pixels.
            **kwargs: Settings of [`FoalNetProcessorKwargs`], for this call: flat, or in `audio_kwargs` and
                `videos_kwargs`. The most important ones:

                - `load_audio_from_video` (`bool`, defaults to `False`): Also read the audio of `videos`, where there is
                  some.
                - `sampling_rate` (`int`): Hz of audio given as an array; required there, since a wrong guess would not
                  be noticed. Other rates than the encoder's are resampled.
                - `padding` (`bool` or `str`, defaults to `True`): `True` or `"longest"`: to the longest of the batch;
                  `"max_length"`: to `max_seconds` of both, as published; `False`: not at all, for clips of one length.
                - `frames_per_second`, `max_seconds` (`float`): Instead of those of the processor; see
                  [`FoalNetVideoProcessor`], also for `fps`, `num_frames`, `do_sample_frames`, `do_normalize`, ...
                - `source_frames_per_second`, `device`, `max_bytes`: As in [`read_clip`].
                - `return_tensors` (`"pt"` or `"np"`, defaults to `"pt"`).

        Returns:
            [`FoalNetBatchFeature`]: `input_values` and `attention_mask` `(batch, samples)` if any clip has audio; for
            an encoder of spectrograms `input_features` as its feature extractor gives them (AST calls them
            `input_values`) and `attention_mask` `(batch, spectrogram_frames)`, where audio shorter than 40 ms counts as
            none;
            `pixel_values_videos` `(batch, frames, 3, height, width)` and `padding_mask_videos` `(batch, frames)` if any
            clip has video. Masks are 1 where there is data. `modalities` lists those of each
            clip.

        Raises:
            MediaError: If a source cannot be read or has nothing in the range.
            TypeError: If an argument is none of these.
            ValueError: If there is nothing to read, the numbers of audios and videos differ, or a rate is missing.
        """
        self._check_reads([side for side, given in (("audio", audio), ("video", videos)) if given is not None])
        processor_kwargs, audio_kwargs, videos_kwargs = self._sorted_kwargs(kwargs)
        load_audio_from_video = processor_kwargs.pop("load_audio_from_video", False)
        if audio is None and videos is None:
            raise ValueError("Nothing to process: give `audio`, `videos` or both.")
        if load_audio_from_video and audio is not None:
            raise ValueError("`load_audio_from_video` reads the audio of `videos`; do not give `audio`.")
        audios, videos = _paired(audio, videos)
        rows = len(audios)
        starts, ends = _spread(start_seconds, rows), _spread(end_seconds, rows)
        boxes = _spread_boxes(crop_box, rows)
        if not len(starts) == len(ends) == len(boxes) == rows:
            raise ValueError(
                f"{rows} clips, but {len(starts)} start_seconds, {len(ends)} end_seconds and {len(boxes)} crop boxes: "
                "give one for all, or one for each."
            )
        parts = [
            {"start_seconds": start or 0.0, "end_seconds": end, "crop_box": box}
            for start, end, box in zip(starts, ends, boxes, strict=True)
        ]
        tensors = videos_kwargs.pop("return_tensors", audio_kwargs.get("return_tensors"))
        videos_kwargs.pop("return_metadata", None)
        video_processor, videos, readings = self.video_processor.for_call(
            videos, parts, **videos_kwargs, **processor_kwargs
        )
        clips = [
            self.read(
                **({"source": video} if load_audio_from_video else _only_given(audio, video)),
                source_sampling_rate=audio_kwargs.get("sampling_rate"),
                video_processor=video_processor,
                **reading,
            )
            for audio, video, reading in zip(audios, videos, readings, strict=True)
        ]
        lengths = {name: readings[0][name] for name in ("max_seconds", "frames_per_second")}
        audio_kwargs = {name: value for name, value in audio_kwargs.items() if name in _PADDING_SETTINGS}
        batch = self._batch(clips, video_processor, **lengths, **audio_kwargs)
        return FoalNetBatchFeature(in_tensors(batch, tensors))

    def _sorted_kwargs(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """The arguments of a call: of the processor, of audio and of video.

        Raises:
            TypeError: If one is not known.
            ValueError: If one is given twice, flat and in a dict.
        """
        names = FoalNetProcessorKwargs.__annotations__
        known = {
            "audio_kwargs": {"sampling_rate", "return_tensors", "device", *_PADDING_SETTINGS},
            "videos_kwargs": {*self.video_processor.valid_kwargs.__annotations__, "return_tensors"},
            "text_kwargs": set(),
            "images_kwargs": set(),
        }
        own = {name: kwargs.pop(name) for name in names if name in kwargs and not name.endswith("_kwargs")}
        flat = {name: value for name, value in kwargs.items() if name not in known and name != "common_kwargs"}
        check_known(flat, sorted(set().union(*known.values(), names)))
        for group, group_known in known.items():
            check_known(kwargs.get(group) or {}, sorted(group_known))
            if twice := sorted(flat.keys() & (kwargs.get(group) or {}).keys()):
                raise ValueError(
                    f"{', '.join(twice)} was passed two times: in the call and in `{group}`. Give it once."
                )
        common = {**(kwargs.get("common_kwargs") or {}), **flat}
        # Not by `_merge_kwargs`, which differs between versions of transformers.
        audio, videos = (
            {name: value for name, value in common.items() if name in known[group]} | (kwargs.get(group) or {})
            for group in ("audio_kwargs", "videos_kwargs")
        )
        return own, audio, videos

    def read(
        self, source: Any = None, *, audio_features: Any = None, video_features: Any = None, **kwargs: Any
    ) -> Clip:
        """Read one clip at the rates and for the length of this processor; frames are cropped and resized.

        Args:
            source, **kwargs: As in [`read_clip`]; `max_seconds` and `frames_per_second` default to the processor's.
            audio_features, video_features (*optional*): Features of the clip, as [`read_features`] takes them, in place
                of its audio or its video, which are then not read. Times and crop box do not apply to them.
        """
        given = {"audio": audio_features, "video": video_features}
        wanted = kwargs.pop("modalities", SIDES)
        features: dict[str, Any] = {
            f"{side}_features": read_features(value, f"{side}_features")
            for side, value in given.items()
            if value is not None and side in wanted
        }
        raw = tuple(side for side in wanted if f"{side}_features" not in features)
        if features and source is None and all(kwargs.get(side) is None for side in raw):
            start = kwargs.get("start_seconds") or 0.0
            return Clip(None, None, None, None, start, kwargs.get("end_seconds") or start, **features)
        return replace(self._read_media(source, modalities=raw, **kwargs), **features)

    def _read_media(self, source: Any, *, video_processor: Any = None, **kwargs: Any) -> Clip:
        self._check_reads(kwargs["modalities"])
        source = checked_source(source)
        kwargs |= {name: checked_source(kwargs[name]) for name in MEDIA_FIELDS if name in kwargs}
        if "audio" in kwargs["modalities"]:
            check_sampling_rate_given(
                source if source is not None else kwargs.get("audio"), kwargs.get("source_sampling_rate")
            )
        settings = {
            "frames_per_second": self.frames_per_second,
            "max_seconds": self.max_seconds,
        }
        if kwargs.get("frames_per_second", 0) is None:
            kwargs.pop("frames_per_second")
        if self.feature_extractor is not None:
            settings["sampling_rate"] = self.sampling_rate
        return (video_processor or self.video_processor).read(source, **{**settings, **kwargs})

    def _check_reads(self, sides: Sequence[str]) -> None:
        """Raise `ValueError` for a side that this processor cannot read."""
        for side, part in (("audio", self.feature_extractor), ("video", self.video_processor)):
            if side in sides and part is None:
                raise ValueError(
                    f"This processor reads no {side}: its checkpoint takes {side} features, of the extractor that its "
                    f"card and `config.{side}_features_from` name. Give them as `{side}_features`."
                )

    def batch(
        self,
        clips: Sequence[Clip],
        *,
        padding: bool | str = True,
        max_seconds: float | None = None,
        frames_per_second: float | None = None,
    ) -> FoalNetBatchFeature:
        """Clips from [`FoalNetProcessor.read`] as the inputs of the model.

        Args:
            clips (`Sequence[Clip]`): At least one.
            padding (`bool` or `str`): As in a call.
            max_seconds (`float`, *optional*): What `padding="max_length"` pads to.
            frames_per_second (`float`, *optional*): Rate at which the clips were read, for `padding="max_length"`.
                Default: the processor's.
        """
        data = self._batch(
            clips,
            self.video_processor,
            padding=padding,
            max_seconds=max_seconds,
            frames_per_second=frames_per_second,
        )
        return FoalNetBatchFeature(data)

    def _batch(
        self,
        clips: Sequence[Clip],
        video_processor: Any,
        *,
        padding: Any = True,
        max_seconds: float | None = None,
        frames_per_second: float | None = None,
        return_attention_mask: bool | None = True,
        **audio_padding: Any,
    ) -> dict[str, torch.Tensor]:
        padding = getattr(padding, "value", padding)
        if padding not in (True, False, "longest", "max_length", "do_not_pad"):
            raise ValueError(
                "`padding` must be True or 'longest' (to the longest of the batch), 'max_length', or False (for clips "
                f"of one length); got {padding!r}."
            )
        max_length = audio_padding.get("max_length")
        seconds = 0.0
        if padding == "max_length":
            if max_seconds is None and max_length is None:
                raise ValueError(
                    '`padding="max_length"` needs `max_seconds`; this processor reads clips of any length.'
                )
            seconds = max_seconds or 0.0
            audio_padding["padding"] = True if max_length is None else padding
        waveforms, frames = [clip.waveform for clip in clips], [clip.frames for clip in clips]
        if padding in (False, "do_not_pad"):
            _check_one_length("samples", waveforms)
            _check_one_length("frames", frames)
        num_samples = round(seconds * self.sampling_rate) if seconds and not max_length else 0
        data = self._batch_audio(waveforms, num_samples, **audio_padding)
        if return_attention_mask is False:
            data.pop("attention_mask", None)
        if any(clip is not None for clip in frames):
            num_frames = round(seconds * (frames_per_second or self.frames_per_second))
            data |= video_processor.pad(frames, num_frames=num_frames)
        return data | _batch_features(clips, data)

    def _batch_audio(
        self, waveforms: Sequence[torch.Tensor | None], num_samples: int, **padding: Any
    ) -> dict[str, torch.Tensor]:
        present = {row: waveform for row, waveform in enumerate(waveforms) if waveform is not None}
        rows = list(present)
        if not rows:
            return {}
        if gives_spectrograms(self.feature_extractor):
            if ignored := sorted(padding.keys() - {"padding"}):
                raise ValueError(
                    f"{', '.join(ignored)}: set for waveforms only, but this audio encoder takes spectrograms. Use "
                    "`max_seconds` for the length of a clip."
                )
            return batch_spectrograms(self.feature_extractor, waveforms, num_samples)
        features = self.feature_extractor(
            [waveform.cpu().numpy() for waveform in present.values()],
            sampling_rate=self.sampling_rate,
            **{"padding": True, **padding},
            return_attention_mask=True,
            return_tensors="pt",
        )
        width = features["input_values"].shape[1]
        longest = max(num_samples, width)
        input_values = torch.full((len(waveforms), longest), float(self.feature_extractor.padding_value))
        mask = torch.zeros(len(waveforms), longest, dtype=torch.long)
        input_values[rows, :width] = features["input_values"]
        mask[rows, :width] = features["attention_mask"].long()
        return {"input_values": input_values, "attention_mask": mask}

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> type:
        """Accept any argument: the library's check imports AutoVideoProcessor, which needs torchvision."""
        return type(argument)

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: Any, processor_dict: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Load both parts by class: the library would use AutoVideoProcessor, which needs torchvision."""
        loaders: dict[str, Any] = {"feature_extractor": AutoFeatureExtractor, "video_processor": FoalNetVideoProcessor}
        return [
            None
            if (processor_dict or {}).get(name, loader) is None
            else loader.from_pretrained(pretrained_model_name_or_path, **kwargs)
            for name, loader in loaders.items()
        ]


def _only_given(audio: Any, video: Any) -> dict[str, Any]:
    """Arguments that read what a clip has: a processor of one side cannot be asked for the other."""
    given = {side: source for side, source in (("audio", audio), ("video", video)) if source is not None}
    return {**given, "modalities": tuple(given)}


def _paired(audio: Any, videos: Any) -> tuple[list[Any], list[Any]]:
    num_clips = len(as_batch(videos if audio is None else audio))
    audios, videos = ([None] * num_clips if given is None else as_batch(given) for given in (audio, videos))
    if len(audios) != len(videos):
        raise ValueError(
            f"{len(audios)} audios and {len(videos)} videos: give one of each for every clip, None where it has none."
        )
    if not audios:
        raise ValueError("Nothing to process: the list of clips is empty.")
    for row, pair in enumerate(zip(audios, videos, strict=True)):
        if all(given is None for given in pair):
            raise ValueError(f"Clip {row} has neither audio nor video: remove it, or give one of them.")
    return audios, videos


def _batch_features(clips: Sequence[Clip], media: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The features of clips as a batch, with their masks."""
    batch = {}
    for side, mask_name, raw in (
        ("audio", "attention_mask", {"input_values", "input_features"}),
        ("video", "padding_mask_videos", {"pixel_values_videos"}),
    ):
        sequences = [getattr(clip, f"{side}_features") for clip in clips]
        if all(sequence is None for sequence in sequences):
            continue
        if raw & media.keys():
            raise ValueError(
                f"Some clips of the batch have {side} and others {side} features: a batch has one or the other."
            )
        batch[f"{side}_features"], batch[mask_name] = pad_features(sequences)
    return batch


def _spread(value: Any, rows: int) -> list[Any]:
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, list | tuple) else [value] * rows


def _spread_boxes(value: Any, rows: int) -> list[Any]:
    is_one = value is None or not any(edge is None or hasattr(edge, "__len__") for edge in value)
    return [value] * rows if is_one else list(value)


def _check_one_length(what: str, items: Sequence[Any]) -> None:
    lengths = [0 if item is None else len(item) for item in items]
    if len(set(lengths)) > 1:
        raise ValueError(f"`padding=False` needs clips of one length, got {lengths} {what}; use `padding=True`.")


__all__ = ["FoalNetBatchFeature", "FoalNetProcessor", "FoalNetProcessorKwargs"]
