"""How a decode worker reads a file: as the pipeline does, for one prediction or for one each stride."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..foal_net.recordings_foal_net import PendingWindow, WindowReader
from ..foal_net.rows_foal_net import given


@dataclass(frozen=True)
class ClipReader:
    """Reads files for the model; it pickles, and holds no model.

    Args:
        processor ([`FoalNetProcessor`]): Has the sampling rate, the frame rate and the longest clip.
        shortest_sound (`int`): Samples that the audio encoder needs; shorter audio counts as none.
        modality (`str`): The modalities to use, as in the pipeline.
        window_seconds (`float`, *optional*): Predict each stride, from windows of this length. Default: predict the
            whole file, from windows of the length that the processor allows.
        stride_seconds (`float`, *optional*): From the start of a window to the next. Default: half a window.
        first_seconds (`float`, *optional*): Read only this much of each file, from its start.
        max_pixels (`int`, *optional*): Limit of the pixels of one frame, as in [`MediaFile`].
        faces (`Mapping[str, Any]`): From `reader_of_faces`.
    """

    processor: Any
    shortest_sound: int
    modality: str = "both"
    window_seconds: float | None = None
    stride_seconds: float | None = None
    first_seconds: float | None = None
    max_pixels: int | None = None
    faces: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, file: Any) -> Iterator[PendingWindow]:
        """The windows of a file, or of a range of it (`start_seconds`, `end_seconds`), in order.

        Raises:
            MediaError: If it cannot be read, or has nothing to score.
        """
        reader = WindowReader(self.processor, self.shortest_sound, self.modality, detect_speech=False, **self.faces)
        part = {name: getattr(file, name) for name in ("start_seconds", "end_seconds")}
        part = given({**part, "first_seconds": self.first_seconds, "max_pixels": self.max_pixels})
        if self.window_seconds is None:
            return reader.whole(file.path, with_evidence=True, **part)
        return reader.timeline(
            file.path, window_seconds=self.window_seconds, stride_seconds=self.stride_seconds, **part
        )


__all__ = ["ClipReader"]
