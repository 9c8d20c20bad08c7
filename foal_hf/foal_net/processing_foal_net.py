"""Clips to model inputs: `FoalNetProcessor` bundles the audio encoder's feature extractor and our video processor."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoFeatureExtractor, AutoImageProcessor
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .checkpoint_foal_net import CheckpointPart
from .media_foal_net import Clip, read_clip
from .rows_foal_net import MEDIA_FIELDS, check_sampling_rate_given, checked_source
from .video_processing_foal_net import (
    READ_SETTINGS,
    FoalNetVideoProcessor,
    as_batch,
    check_known,
    check_return_tensors,
)


# Where the published recipe differs: 6 s of waveform without normalization, and all of 30 frames per second.
PAPER_SETTING = {"frames_per_second": 30.0, "max_seconds": 6.0}


class FoalNetBatchFeature(BatchFeature):
    """The inputs of a batch; also knows which modalities each clip has."""

    @property
    def modalities(self) -> list[tuple[str, ...]]:
        """For each clip a subset of `("audio", "video")`."""
        masks = {"audio": self.get("attention_mask"), "video": self.get("padding_mask_videos")}
        present = {name: mask.any(dim=1).tolist() for name, mask in masks.items() if mask is not None}
        rows = len(next(iter(present.values())))
        return [tuple(name for name in present if present[name][row]) for row in range(rows)]


class FoalNetProcessor(CheckpointPart, ProcessorMixin):
    r"""Audio and video of one or many clips to the inputs of Foal-Net.

    Args:
        feature_extractor (`SequenceFeatureExtractor`): The audio encoder's own.
        video_processor ([`FoalNetVideoProcessor`]): Holds `frames_per_second` and `max_seconds` for both modalities.

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
    # Trainer and its checkpoints look for special tokens on their `processing_class`.
    tokenizer = SimpleNamespace(
        eos_token_id=None, bos_token_id=None, pad_token_id=None, init_kwargs={}, special_tokens_map={}
    )

    def __init__(self, feature_extractor: Any = None, video_processor: Any = None) -> None:
        super().__init__(feature_extractor, video_processor)

    @classmethod
    def from_encoders_pretrained(
        cls, audio_encoder: str, vision_encoder: str, *, setting: str = "default", **kwargs: Any
    ) -> "FoalNetProcessor":
        """The processor for two pretrained encoders.

        Args:
            audio_encoder (`str`): Hub name or folder of the audio encoder, for its feature extractor.
            vision_encoder (`str`): Hub name or folder of the image encoder, for its image processor.
            setting (`"default"` or `"paper"`): `"paper"` takes 30 frames per second and does not normalize the
                waveform, whatever the checkpoint says, as published.
            **kwargs: Fields of [`FoalNetVideoProcessor`], such as `frames_per_second` and `max_seconds`.

        Raises:
            ValueError: If `setting` is neither.
        """
        if setting not in ("default", "paper"):
            raise ValueError(f"`setting` must be 'default' or 'paper', got {setting!r}.")
        feature_extractor = AutoFeatureExtractor.from_pretrained(audio_encoder)
        image_processor = AutoImageProcessor.from_pretrained(vision_encoder)
        if setting == "paper":
            kwargs = {**PAPER_SETTING, **kwargs}
            feature_extractor.do_normalize = False
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
        return self.video_processor.max_seconds

    @property
    def model_input_names(self) -> list[str]:
        """The keys that a call can return."""
        return ["input_values", "attention_mask", *self.video_processor.model_input_names]

    def __call__(
        self,
        audio: Any = None,
        videos: Any = None,
        *,
        sampling_rate: int | None = None,
        load_audio_from_video: bool = False,
        start_seconds: float | Sequence[float] | None = None,
        end_seconds: float | Sequence[float | None] | None = None,
        crop_box: Sequence[Any] | None = None,
        padding: bool | str = True,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> FoalNetBatchFeature:
        """Read and prepare one or many clips.

        Args:
            audio: The audio of a clip, or a list; an entry may be None. Path, URL, bytes, file object, array,
                torchcodec decoder, or a row of a `datasets` Audio column; of a video file the audio is read.
            videos: The video of a clip, or a list; an entry may be None. Types as for `audio`.
            sampling_rate (`int`, *optional*): Hz of audio given as an array; required there, since a wrong guess would
                not be noticed. Other rates than the encoder's are resampled.
            load_audio_from_video (`bool`, defaults to `False`): Also read the audio of `videos`, where there is some.
            start_seconds, end_seconds (`float` or a list of them, *optional*): Range of the file that is the clip,
                half open, in seconds.
            crop_box (`(left, top, right, bottom)` or a list of them, *optional*): Region of the frames, in pixels.
            padding (`bool` or `str`, defaults to `True`): `True` or `"longest"`: to the longest of the batch;
                `"max_length"`: to `max_seconds` of both, as published.
            return_tensors (`str`, defaults to `"pt"`): Only torch tensors are given.
            **kwargs: For this call: `frames_per_second`, `max_seconds`, `source_frames_per_second`, `device` and
                `max_bytes` of [`read_clip`].

        Returns:
            [`FoalNetBatchFeature`]: `input_values` and `attention_mask` `(batch, samples)` if any clip has audio;
            `pixel_values_videos` `(batch, frames, 3, height, width)` and `padding_mask_videos` `(batch, frames)` if any
            clip has video. Masks are 1 where there is data. `modalities` lists those of each
            clip.

        Raises:
            MediaError: If a source cannot be read or has nothing in the range.
            TypeError: If an argument is none of these.
            ValueError: If there is nothing to read, the numbers of audios and videos differ, or a rate is missing.
        """
        check_return_tensors(return_tensors)
        check_known(kwargs, READ_SETTINGS)
        _check_padding(padding)
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
        clips = [
            self.read(
                **({"source": video} if load_audio_from_video else {"audio": audio, "video": video}),
                start_seconds=start or 0.0,
                end_seconds=end,
                crop_box=box,
                source_sampling_rate=sampling_rate,
                **kwargs,
            )
            for audio, video, start, end, box in zip(audios, videos, starts, ends, boxes, strict=True)
        ]
        lengths = {name: kwargs.get(name, getattr(self, name)) for name in ("max_seconds", "frames_per_second")}
        return self.batch(clips, padding=padding, **lengths)

    def read(self, source: Any = None, **kwargs: Any) -> Clip:
        """Read one clip at the rates and for the length of this processor; frames are resized and cropped.

        The arguments are those of [`read_clip`]; `max_seconds` and `frames_per_second` default to the processor's.
        """
        source = checked_source(source)
        kwargs |= {name: checked_source(kwargs[name]) for name in MEDIA_FIELDS if name in kwargs}
        if "audio" in kwargs.get("modalities", ("audio",)):
            check_sampling_rate_given(
                source if source is not None else kwargs.get("audio"), kwargs.get("source_sampling_rate")
            )
        settings = {"frames_per_second": self.frames_per_second, "max_seconds": self.max_seconds}
        if kwargs.get("frames_per_second", 0) is None:
            kwargs.pop("frames_per_second")
        return read_clip(
            source,
            sampling_rate=self.sampling_rate,
            transform=self.video_processor.resize_and_crop,
            **{**settings, **kwargs},
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
        _check_padding(padding)
        fill = padding == "max_length"
        if fill and max_seconds is None:
            raise ValueError('`padding="max_length"` needs `max_seconds`; this processor reads clips of any length.')
        seconds = max_seconds if fill and max_seconds is not None else 0.0
        data = self._batch_audio([clip.waveform for clip in clips], round(seconds * self.sampling_rate))
        frames = [clip.frames for clip in clips]
        if any(clip is not None for clip in frames):
            num_frames = round(seconds * (frames_per_second or self.frames_per_second))
            data |= self.video_processor.pad(frames, num_frames=num_frames)
        return FoalNetBatchFeature(data)

    def _batch_audio(self, waveforms: Sequence[torch.Tensor | None], num_samples: int) -> dict[str, torch.Tensor]:
        present = {row: waveform for row, waveform in enumerate(waveforms) if waveform is not None}
        rows = list(present)
        if not rows:
            return {}
        longest = max([num_samples, *(len(waveform) for waveform in present.values())])
        input_values = torch.full((len(waveforms), longest), float(self.feature_extractor.padding_value))
        mask = torch.zeros(len(waveforms), longest, dtype=torch.long)
        features = self.feature_extractor(
            [waveform.cpu().numpy() for waveform in present.values()],
            sampling_rate=self.sampling_rate,
            padding=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        width = features["input_values"].shape[1]
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
        return [
            AutoFeatureExtractor.from_pretrained(pretrained_model_name_or_path, **kwargs),
            FoalNetVideoProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs),
        ]


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


def _spread(value: Any, rows: int) -> list[Any]:
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, list | tuple) else [value] * rows


def _spread_boxes(value: Any, rows: int) -> list[Any]:
    is_one = value is None or not any(edge is None or hasattr(edge, "__len__") for edge in value)
    return [value] * rows if is_one else list(value)


def _check_padding(padding: bool | str) -> None:
    if padding not in (True, "longest", "max_length"):
        raise ValueError(
            f"`padding` must be True or 'longest' (to the longest of the batch) or 'max_length', got {padding!r}."
        )


__all__ = ["FoalNetBatchFeature", "FoalNetProcessor"]
