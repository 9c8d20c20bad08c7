"""Frames of a clip to inputs of the image encoder: sampled in time, resized, cropped, normalized.

This uses torch only: torchvision is not needed (its wheels do not import beside a CPU build of torch), and frames on a
GPU stay there. The values equal those of the encoder's own image processor.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_utils import ChannelDimension
from transformers.processing_utils import VideosKwargs
from transformers.utils import logging
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata

from .faces_foal_net import CROPS, NOT_FOUND, crop_to_main_face
from .image_processors_foal_net import IMAGE_PROCESSOR_FIELDS, check_same_values, processor_fields
from .media_foal_net import Clip, read_clip
from .sampling_foal_net import SAMPLING_SETTINGS, channels_first, frame_rates, metadata_rates


logger = logging.get_logger(__name__)

# PIL's numbers of the filters, as in preprocessor_config.json.
_INTERPOLATION = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
# Arguments of `read_clip` that a call may set, beside the range; the processors set the others.
READ_SETTINGS = ("frames_per_second", "max_seconds", "source_frames_per_second", "device", "max_bytes")
_RANGE = ("start_seconds", "end_seconds", "crop_box")
_CROP_FIELDS = ("crop", "crop_margin")


class FoalNetVideoProcessorKwargs(VideosKwargs, total=False):
    """Settings of [`FoalNetVideoProcessor`] beyond those of every video processor.

    Attributes:
        frames_per_second (`float`): Frames taken from each second of video.
        max_seconds (`float`, *optional*): Maximum length of a clip; longer clips are cut.
        crop (`"frame"` or `"face"`): What the encoder sees of a frame.
        crop_margin (`float`): Side of the crop by the longer side of the face.
    """

    frames_per_second: float | int | None
    max_seconds: float | int | None
    crop: Literal["frame", "face"] | None
    crop_margin: float | int | None


class FoalNetVideoProcessor(BaseVideoProcessor):
    r"""Converts video to `pixel_values_videos` and `padding_mask_videos`.

    Args:
        frames_per_second (`float`, defaults to 5.0): Frames taken from each second (30 in the published recipe).
        max_seconds (`float`, *optional*, defaults to 6.0): Maximum length of a clip; longer clips are cut.
        crop (`"frame"` or `"face"`, defaults to `"frame"`): What the encoder sees of a frame: all of it, or the square
            around the main face of the clip, the largest, longest visible one, as in training. Faces are found by the
            installed package with the extra `faces`; without it, and in clips without a face, the whole frame is used.
            A `crop_box` that is given is used in any case.
        crop_margin (`float`, defaults to 1.36): Side of that square by the longer side of the detector's box.
        do_resize, size, resample, do_center_crop, crop_size, do_rescale, rescale_factor, do_normalize, image_mean,
            image_std: As in the image processor of the encoder; default to those of CLIP ViT-L/14. `size` is
            `{"shortest_edge": pixels}` or `{"height": pixels, "width": pixels}`; `resample` is 0 (nearest), 2
            (bilinear) or 3 (bicubic).

    Example:

    ```python
    >>> from foal_hf import FoalNetVideoProcessor

    >>> processor = FoalNetVideoProcessor(frames_per_second=10)
    >>> processor("clip.mp4")["pixel_values_videos"].shape
    torch.Size([1, 32, 3, 224, 224])
    ```
    """

    _auto_class = "AutoVideoProcessor"  # saved with its code
    valid_kwargs = FoalNetVideoProcessorKwargs  # type: ignore[assignment]
    model_input_names = ["pixel_values_videos", "padding_mask_videos"]
    do_resize = True
    size = {"shortest_edge": 224}
    default_to_square = False
    resample = 3
    do_center_crop = True
    crop_size = {"height": 224, "width": 224}
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    do_convert_rgb = True
    image_mean = [0.48145466, 0.4578275, 0.40821073]
    image_std = [0.26862954, 0.26130258, 0.27577711]
    frames_per_second = 5.0
    max_seconds = 6.0
    crop = "frame"
    crop_margin = 1.36
    # Returns what finds and crops faces for a transform and a margin, None without the extra; set by `import foal_hf`.
    _open_faces: ClassVar[Callable[..., Any]] = staticmethod(lambda transform, margin: None)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if "max_seconds" in kwargs:  # None means the whole clip; the base class takes it as "not given"
            self.max_seconds = kwargs["max_seconds"]
        if not self.frames_per_second > 0:
            raise ValueError(f"`frames_per_second` must be above 0, got {self.frames_per_second}.")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ValueError(f"`max_seconds` must be above 0 or None, got {self.max_seconds}.")
        if self.crop not in CROPS:
            raise ValueError(f"`crop` must be one of {', '.join(CROPS)}; got {self.crop!r}.")
        if not 1 <= self.crop_margin <= 4:
            raise ValueError(f"`crop_margin` must be from 1, the tightest square, to 4, got {self.crop_margin}.")
        if self.crop == "face" and not (self.do_resize or self.do_center_crop):
            raise ValueError("`crop` is 'face', whose crops have many sizes: set `do_resize` and `size`.")
        if self.do_resize and self.resample not in _INTERPOLATION:
            raise ValueError(f"`resample` must be 0 (nearest), 2 (bilinear) or 3 (bicubic), got {self.resample!r}.")
        size = dict(self.size or {})
        if self.do_resize and set(size) not in ({"shortest_edge"}, {"height", "width"}):
            raise ValueError(f"`size` must have 'shortest_edge', or 'height' and 'width', got {size}.")

    @classmethod
    def from_image_processor(cls, image_processor: Any, **kwargs: Any) -> "FoalNetVideoProcessor":
        """A video processor that treats every frame as `image_processor` treats an image.

        Args:
            image_processor (`BaseImageProcessor`, `BaseVideoProcessor` or `Mapping`): That of the encoder, or the
                content of its file. It is tried on one image.
            **kwargs: `frames_per_second`, `max_seconds`, `crop`, or any other field to change.

        Raises:
            TypeError: If an argument is none of these.
            ValueError: If the image processor has a step that this class does not have.
        """
        check_known(kwargs, ("frames_per_second", "max_seconds", *_CROP_FIELDS, *IMAGE_PROCESSOR_FIELDS))
        fields = processor_fields(image_processor)
        if callable(image_processor):
            same = cls(**fields)
            scale = same.rescale_factor if same.do_rescale else 1.0
            level = scale / torch.tensor(same.image_std).view(3, 1, 1) if same.do_normalize else scale
            check_same_values(
                image_processor, lambda frames: same.scale_and_normalize(same.resize_and_crop(frames)), level
            )
        return cls(**{**fields, **kwargs})

    def to_dict(self) -> dict[str, Any]:
        """As in transformers; `crop` and `crop_margin` only where faces are cropped."""
        fields = super().to_dict()
        return fields if self.crop == "face" else {name: fields[name] for name in fields if name not in _CROP_FIELDS}

    def face_crops(self, transform: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Any:
        """What finds and crops the faces that this processor shows; None if it shows the whole frame.

        Args:
            transform (`Callable`, *optional*): Of cropped frames. Default: `resize_and_crop`.

        Returns:
            Its `watch()` is `find_faces` of [`MediaFile.read`], new for each recording. It is None, with a warning,
            where the package or its extra `faces` is missing.
        """
        if self.crop != "face":
            return None
        crops = self._open_faces(transform or self.resize_and_crop, self.crop_margin)
        if crops is None:
            logger.warning_once(f"{NOT_FOUND[0].upper()}{NOT_FOUND[1:]}.")
        return crops

    def read(self, source: Any = None, **kwargs: Any) -> Clip:
        """[`read_clip`] with the frames that this processor shows: cropped to the main face, resized and cropped.

        Args:
            source, **kwargs: As in [`read_clip`].
        """
        kwargs = {"transform": self.resize_and_crop, **kwargs}
        reads_video = "video" in kwargs.get("modalities", ("video",)) and kwargs.get("crop_box") is None
        crops = self.face_crops(kwargs["transform"]) if reads_video else None
        return crop_to_main_face(read_clip(source, find_faces=None if crops is None else crops.watch(), **kwargs))

    def preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Read and prepare the video of one or many clips.

        Args:
            videos: One source or a list of sources, as in [`MediaFile`].
            **kwargs: For this call: any argument of [`read_clip`] that concerns video, such as `frames_per_second`,
                `start_seconds` or `crop_box` (the same for all clips), and any of those of every video processor of
                transformers: `size`, `do_normalize` and other fields, `fps`, `num_frames`, `do_sample_frames`,
                `video_metadata`, `input_data_format`, `device`, `return_metadata`, `return_tensors` (`"pt"`, the
                default, or `"np"`). Frames are always RGB, channels first, and padded.

        Returns:
            [`BatchFeature`] with `pixel_values_videos` of shape `(batch, frames, 3, height, width)`, float32, padded
            with zeros to the longest, and `padding_mask_videos` of shape `(batch, frames)`, 1 for frames.

        Raises:
            MediaError: If a source cannot be read or has no video.
            TypeError: If an argument is none of these.
            ValueError: If there is no video, or an argument has a value that is not possible.
        """
        check_known(kwargs, (*self.valid_kwargs.__annotations__, *READ_SETTINGS, *_RANGE, "return_tensors"))
        sources = as_batch(videos)
        if not sources or any(source is None for source in sources):
            raise ValueError(f"`videos` must have at least one video and no None, got {len(sources)} entries.")
        start, end, crop_box = (kwargs.pop(name, None) for name in _RANGE)
        tensors, with_metadata = kwargs.pop("return_tensors", None), kwargs.pop("return_metadata", self.return_metadata)
        parts = [{"start_seconds": start or 0.0, "end_seconds": end, "crop_box": crop_box}] * len(sources)
        processor, sources, readings = self.for_call(sources, parts, **kwargs)
        clips = [
            processor.read(video=source, modalities=("video",), **reading)
            for source, reading in zip(sources, readings, strict=True)
        ]
        data: dict[str, Any] = in_tensors(processor.pad([clip.frames for clip in clips]), tensors)
        if with_metadata:
            data["video_metadata"] = [
                VideoMetadata(
                    total_num_frames=0 if clip.frames is None else len(clip.frames),
                    fps=reading["frames_per_second"],
                    duration=clip.end_seconds - clip.start_seconds,
                )
                for clip, reading in zip(clips, readings, strict=True)
            ]
        return BatchFeature(data)

    def for_call(
        self,
        sources: Sequence[Any],
        parts: Sequence[dict[str, Any]],
        *,
        frames_per_second: float | None = None,
        video_metadata: Any = None,
        input_data_format: Any = None,
        data_format: Any = None,
        **kwargs: Any,
    ) -> tuple["FoalNetVideoProcessor", list[Any], list[dict[str, Any]]]:
        """The arguments of a call, taken apart.

        Args:
            sources (`Sequence`): Videos, or None for a clip without.
            parts (`Sequence[dict]`): The range of each clip, as arguments of [`read_clip`].
            **kwargs: Those of the call.

        Returns:
            This processor with the fields of the call, the sources with channels first, and for each the arguments of
            [`read_clip`].
        """
        if data_format not in (None, "channels_first", ChannelDimension.FIRST):
            raise ValueError(f"`data_format` must be 'channels_first', which the model takes, got {data_format!r}.")
        for name in ("do_pad", "do_convert_rgb"):  # always done
            kwargs.pop(name, None)
        own = (*IMAGE_PROCESSOR_FIELDS, *_CROP_FIELDS, "default_to_square")
        fields = {name: kwargs.pop(name) for name in own if name in kwargs}
        processor = type(self)(**{**self.to_dict(), **fields}) if fields else self
        sampling = {name: kwargs.pop(name, getattr(self, name)) for name in SAMPLING_SETTINGS}
        kwargs = {"max_seconds": self.max_seconds, **kwargs}
        source_rate = kwargs.pop("source_frames_per_second", None)
        limits = {name: kwargs[name] for name in ("max_seconds", "max_bytes") if name in kwargs}
        sources = [channels_first(source, input_data_format) for source in sources]
        readings = []
        for source, part, own_rate in zip(sources, parts, metadata_rates(video_metadata, len(sources)), strict=True):
            rates = frame_rates(
                source,
                frames_per_second=self.frames_per_second if frames_per_second is None else frames_per_second,
                source_frames_per_second=source_rate or own_rate,
                start_seconds=part["start_seconds"],
                end_seconds=part["end_seconds"],
                **limits,
                **sampling,
            )
            readings.append({**kwargs, **part, **rates})
        return processor, sources, readings

    def resize_and_crop(self, frames: torch.Tensor) -> torch.Tensor:
        """`(frames, 3, height, width)`, uint8, to the size of the encoder's input, uint8."""
        if self.do_resize:
            frames = _resize(frames, _target_size(frames, dict(self.size)), _INTERPOLATION[int(self.resample)])
        if self.do_center_crop:
            frames = _center_crop(frames, self.crop_size["height"], self.crop_size["width"])
        return frames

    def scale_and_normalize(self, frames: torch.Tensor) -> torch.Tensor:
        """Pixels 0 to 255 to the float32 values that the encoder was trained on, in one pass."""
        scale = self.rescale_factor if self.do_rescale else 1.0
        if not self.do_normalize:
            return frames.float() * scale
        mean, std = (
            torch.tensor(values, device=frames.device).view(-1, 1, 1) for values in (self.image_mean, self.image_std)
        )
        return frames.float().mul_(scale / std).sub_(mean / std)

    def pad(  # type: ignore[override]
        self, clips: Sequence[torch.Tensor | None], num_frames: int | None = None
    ) -> dict[str, torch.Tensor]:
        """A batch of resized frames.

        Args:
            clips (`Sequence[torch.Tensor]`): Frames of each clip, `(frames, 3, height, width)`, uint8; None for a clip
                without video. At least one clip has video.
            num_frames (`int`, *optional*): Pad to this many frames instead of to the longest clip.

        Returns:
            `pixel_values_videos` and `padding_mask_videos`; a clip without video is all padding.
        """
        present = [clip for clip in clips if clip is not None]
        sizes = {tuple(clip.shape[1:]) for clip in present}
        if len(sizes) != 1:
            raise ValueError(
                f"Frames of one batch must have one size, got {sorted(sizes)}; set `do_resize` and `do_center_crop`, "
                "or give clips of one size at a time."
            )
        longest = max(max(len(clip) for clip in present), num_frames or 0)
        shape = (len(clips), longest, *present[0].shape[1:])
        pixel_values = torch.zeros(shape, device=present[0].device)
        mask = torch.zeros(shape[:2], dtype=torch.long, device=present[0].device)
        for row, clip in enumerate(clips):
            if clip is not None:
                pixel_values[row, : len(clip)] = self.scale_and_normalize(clip)
                mask[row, : len(clip)] = 1
        return {"pixel_values_videos": pixel_values, "padding_mask_videos": mask}


def as_batch(value: Any) -> list[Any]:
    """One source, or many, as a list of sources.

    A list is many sources, unless it is one itself: numbers (a waveform), or frames (PIL images, or arrays of one frame
    each). An array of five axes is many videos.
    """
    if isinstance(value, list | tuple):
        first = next((item for item in value if item is not None), None)
        is_number, is_image = isinstance(first, int | float), hasattr(first, "convert")
        is_one = is_number or is_image or getattr(first, "ndim", None) in (0, 3)
        return [value] if is_one else list(value)
    return list(value) if getattr(value, "ndim", None) == 5 else [value]


def check_known(arguments: Iterable[str], known: Sequence[str]) -> None:
    """Raise `TypeError` for a name that is not in `known`: a mistyped name must not go unnoticed."""
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise TypeError(f"Unknown arguments: {', '.join(unknown)}. Expected some of {', '.join(known)}.")


def in_tensors(data: dict[str, torch.Tensor], kind: Any) -> dict[str, Any]:
    """The tensors, or for `"np"` arrays; None is the same as `"pt"`."""
    kind = getattr(kind, "value", kind)
    if kind not in (None, "pt", "np"):
        raise ValueError(f"`return_tensors` must be 'pt' or 'np', got {kind!r}.")
    return {name: tensor.cpu().numpy() for name, tensor in data.items()} if kind == "np" else dict(data)


def _target_size(frames: torch.Tensor, size: dict[str, int]) -> tuple[int, int]:
    height, width = frames.shape[-2:]
    if "shortest_edge" not in size:
        return size["height"], size["width"]
    short, long = min(height, width), max(height, width)
    new_short, new_long = size["shortest_edge"], int(size["shortest_edge"] * long / short)
    return (new_short, new_long) if height <= width else (new_long, new_short)


def _resize(frames: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    if tuple(frames.shape[-2:]) == size:
        return frames
    if mode == "nearest-exact":
        return F.interpolate(frames, size=size, mode=mode)
    if frames.dtype == torch.uint8 and frames.device.type != "cpu":  # the kernel for bytes exists on the CPU only
        resized = F.interpolate(frames.float(), size=size, mode=mode, antialias=True, align_corners=False)
        return resized.round_().clamp_(0, 255).to(torch.uint8)
    return F.interpolate(frames, size=size, mode=mode, antialias=True, align_corners=False)


def _center_crop(frames: torch.Tensor, height: int, width: int) -> torch.Tensor:
    missing_rows, missing_columns = max(0, height - frames.shape[-2]), max(0, width - frames.shape[-1])
    if missing_rows or missing_columns:
        left, top = missing_columns // 2, missing_rows // 2
        frames = F.pad(frames, (left, missing_columns - left, top, missing_rows - top))
    top, left = (frames.shape[-2] - height) // 2, (frames.shape[-1] - width) // 2
    return frames[..., top : top + height, left : left + width]


__all__ = [
    "READ_SETTINGS",
    "FoalNetVideoProcessor",
    "FoalNetVideoProcessorKwargs",
    "as_batch",
    "check_known",
    "in_tensors",
]
