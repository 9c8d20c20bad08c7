"""Which frames of a video are taken: by a rate, by a number, or all, as in other video processors of transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .media_foal_net import MediaFile
from .sources_foal_net import DEFAULT_MAX_BYTES


SAMPLING_SETTINGS = ("fps", "num_frames", "do_sample_frames")


def frame_rates(
    video: Any,
    *,
    frames_per_second: float,
    source_frames_per_second: float | None = None,
    fps: float | None = None,
    num_frames: int | None = None,
    do_sample_frames: bool | None = True,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    max_seconds: float | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> dict[str, float | None]:
    """The rate to read a video at, as arguments of `read_clip`.

    Args:
        video: A source of video, or None. It is opened where its length or rate has to be known.
        frames_per_second (`float`): Of the processor.
        source_frames_per_second (`float`, *optional*): Rate of frames given as an array. Default: `frames_per_second`.
        fps (`float`, *optional*): Instead of `frames_per_second`.
        num_frames (`int`, *optional*): Take this many frames, evenly spaced over the clip.
        do_sample_frames (`bool`, *optional*): With `False`, take all frames of the clip; the other two are ignored.
        start_seconds, end_seconds, max_seconds (`float`, *optional*): The range that is the clip.
        max_bytes (`int`): As in `read_clip`.

    Raises:
        ValueError: If both `fps` and `num_frames` are given, the video has fewer frames, or the rate of an array has to
            be known.
    """
    rates = {"frames_per_second": frames_per_second, "source_frames_per_second": source_frames_per_second}
    if do_sample_frames is False:
        fps = num_frames = None
    elif fps is None and num_frames is None:
        return rates
    if video is None:
        return rates
    if fps is not None:
        if num_frames is not None:
            raise ValueError("`fps` and `num_frames` exclude each other; give one of them.")
        if source_frames_per_second is None and _is_array(video):
            raise ValueError(
                "`fps` of frames given as an array needs their own rate: give `source_frames_per_second`, or "
                '`video_metadata` with "fps".'
            )
        return rates | {"frames_per_second": float(fps)}
    source_rate = source_frames_per_second or frames_per_second
    with MediaFile(
        video=video, modalities=("video",), source_frames_per_second=source_rate, max_bytes=max_bytes
    ) as media:
        own_rate, end = media.video_frames_per_second, media.duration_seconds
    if num_frames is None:
        return {"frames_per_second": own_rate or frames_per_second, "source_frames_per_second": source_rate}
    start = start_seconds or 0.0
    ends = [end, end_seconds, None if max_seconds is None else start + max_seconds]
    seconds = min((second for second in ends if second is not None), default=start) - start
    if seconds <= 0:
        raise ValueError("`num_frames` needs the length of the clip, which the file does not say; give `end_seconds`.")
    num_available = round(seconds * own_rate) if own_rate else num_frames
    if not 0 < num_frames <= num_available:
        raise ValueError(f"`num_frames` must be from 1 to the {num_available} frames of the clip, got {num_frames}.")
    return {"frames_per_second": num_frames / seconds, "source_frames_per_second": source_rate}


def metadata_rates(video_metadata: Any, num_videos: int) -> list[float | None]:
    """The frame rate of each video from `video_metadata`, as transformers takes it: one or a list, also nested."""
    while isinstance(video_metadata, list | tuple) and len(video_metadata) == 1:
        video_metadata = video_metadata[0]
    entries = video_metadata if isinstance(video_metadata, list | tuple) else [video_metadata] * num_videos
    entries = [entry[0] if isinstance(entry, list | tuple) else entry for entry in entries]
    if len(entries) != num_videos:
        raise ValueError(
            f"`video_metadata` must have one entry for each of the {num_videos} videos, got {len(entries)}."
        )
    return [entry.get("fps") if isinstance(entry, dict) else getattr(entry, "fps", None) for entry in entries]


def channels_first(video: Any, input_data_format: Any) -> Any:
    """Frames given as arrays with the channels on the second axis; any other source unchanged."""
    if input_data_format is None or not _is_array(video):
        return video
    layout = getattr(input_data_format, "value", input_data_format)
    if layout not in ("channels_first", "channels_last"):
        raise ValueError(f"`input_data_format` must be 'channels_first' or 'channels_last', got {input_data_format!r}.")
    if isinstance(video, list | tuple):
        if hasattr(video[0], "convert"):  # PIL images have no layout
            return video
        video = np.stack([np.asarray(frame) for frame in video])
    return torch.as_tensor(video).movedim(-1, 1) if layout == "channels_last" else video


def _is_array(video: Any) -> bool:
    return isinstance(video, list | tuple | np.ndarray | torch.Tensor)


__all__ = ["SAMPLING_SETTINGS", "channels_first", "frame_rates", "metadata_rates"]
