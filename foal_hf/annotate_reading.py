"""What the decode workers do with a file: read it, whole or window by window."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .media_foal_net import Clip, MediaFile
from .sources_foal_net import MediaError


@dataclass(frozen=True)
class ClipReader:
    """Reads files as the pipeline does; it pickles, and holds no model.

    Args:
        processor ([`FoalNetProcessor`]): Says at which rates, and for how long.
        shortest_sound (`int`): Samples that the audio encoder needs; a shorter sound counts as none.
        modalities (`Sequence[str]`): What to read.
        window_seconds (`float`, *optional*): Read all of the file, in windows of this length. Default: one clip, from
            the start, as long as the processor takes.
        stride_seconds (`float`, *optional*): From the start of a window to that of the next. Default: the length of a
            window.
    """

    processor: Any
    shortest_sound: int
    modalities: Sequence[str] = ("audio", "video")
    window_seconds: float | None = None
    stride_seconds: float | None = None

    def __call__(self, path: str) -> Iterator[tuple[Clip, float | None]]:
        """The clips of a file, each with the length of the whole file in seconds, None where the file does not say.

        Raises:
            MediaError: If it cannot be read, or nothing is there.
        """
        with MediaFile(
            path,
            sampling_rate=self.processor.sampling_rate,
            frames_per_second=self.processor.frames_per_second,
            modalities=self.modalities,
        ) as media:
            if self.window_seconds is None:
                yield self._read(media, 0.0, self.processor.max_seconds), media.duration_seconds
            else:
                for clip in self._windows(media, self.window_seconds):
                    yield clip, media.duration_seconds

    def _windows(self, media: MediaFile, window_seconds: float) -> Iterator[Clip]:
        stride_seconds = self.stride_seconds or window_seconds
        start_seconds, number = 0.0, 0
        while True:
            try:
                yield self._read(media, start_seconds, window_seconds)
            except MediaError:
                duration = media.duration_seconds
                if number == 0 or (duration is not None and start_seconds + window_seconds < duration):
                    raise
                return
            number += 1
            start_seconds = number * stride_seconds

    def _read(self, media: MediaFile, start_seconds: float, max_seconds: float | None) -> Clip:
        transform = self.processor.video_processor.resize_and_crop
        clip = media.read(start_seconds, max_seconds=max_seconds, transform=transform)
        if clip.waveform is None or len(clip.waveform) >= self.shortest_sound:
            return clip
        if clip.frames is None:
            raise MediaError(
                media.name,
                f"the sound has {len(clip.waveform)} samples at {clip.sampling_rate} Hz, the model needs at least "
                f"{self.shortest_sound}.",
            )
        return replace(clip, waveform=None, sampling_rate=None)


__all__ = ["ClipReader"]
