"""How a decode worker reads a file: as the pipeline does, as one clip or window by window."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..foal_net.evidence_foal_net import measure_evidence, usable_part, why_nothing
from ..foal_net.media_foal_net import Clip, MediaFile
from ..foal_net.recordings_foal_net import MODALITIES, PendingWindow, RecordingReader, drop_too_short_audio
from ..foal_net.sources_foal_net import MediaError
from ..foal_net.timeline_foal_net import ScoredSegment


@dataclass(frozen=True)
class ClipReader:
    """Reads files for the model; it pickles, and holds no model.

    Args:
        processor ([`FoalNetProcessor`]): Has the sampling rate, the frame rate and the longest clip.
        shortest_sound (`int`): Samples that the audio encoder needs; shorter audio counts as none.
        modality (`str`): The modalities to use, as in the pipeline.
        window_seconds (`float`, *optional*): Read all of a file, in windows of this length. Default: one clip from the
            start, as long as the processor allows.
        stride_seconds (`float`, *optional*): From the start of a window to the next. Default: half a window.
    """

    processor: Any
    shortest_sound: int
    modality: str = "both"
    window_seconds: float | None = None
    stride_seconds: float | None = None

    def __call__(self, path: str) -> Iterator[PendingWindow]:
        """The clips of a file, in order.

        Raises:
            MediaError: If it cannot be read, or has nothing to score.
        """
        recording = {
            "source": path,
            "sampling_rate": self.processor.sampling_rate,
            "frames_per_second": self.processor.frames_per_second,
            "modalities": MODALITIES[self.modality],
        }
        transform = self.processor.video_processor.resize_and_crop
        if self.window_seconds is None:
            with MediaFile(**recording) as media:
                clip = media.read(max_seconds=self.processor.max_seconds, transform=transform)
                yield self._whole(clip, media)
            return
        windows = {
            "window_seconds": self.window_seconds,
            "stride_seconds": self.stride_seconds or self.window_seconds / 2,
            "transform": transform,
        }
        reader = RecordingReader(
            recording,
            windows,
            shortest_sound=self.shortest_sound,
            skip_empty=self.modality == "auto",
            detect_speech=False,
        )
        for window in reader:
            if isinstance(window, Exception):
                raise window
            yield window

    def _whole(self, clip: Clip, media: MediaFile) -> PendingWindow:
        start_seconds, end_seconds = clip.start_seconds, clip.end_seconds
        kept, reason = drop_too_short_audio(clip, self.shortest_sound), None
        if kept is None:
            raise MediaError(media.name, f"is too short: the model needs at least {self.shortest_sound} samples.")
        if self.modality == "auto":
            evidence = measure_evidence(kept, detect_speech=False)
            kept, reason = usable_part(kept, evidence), why_nothing(evidence)
        modalities = () if kept is None else kept.modalities
        segment = ScoredSegment(start_seconds, end_seconds, {}, end_seconds, None, modalities, reason)
        return PendingWindow(segment, kept, media.duration_seconds)


__all__ = ["ClipReader"]
