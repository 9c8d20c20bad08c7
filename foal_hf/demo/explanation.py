"""What a prediction is based on and what was found in a recording, in plain words."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


_Segment = Mapping[str, Any]


def describe_evidence(segments: Sequence[_Segment], modality: str) -> list[str]:
    """What a prediction is based on and what was found in the recording, one sentence each.

    Args:
        segments (`Sequence[Mapping]`): Of one recording, at least one.
        modality (`str`): The pipeline's argument.
    """
    facts = [_basis(segments)]
    if modality == "video":
        facts.append("The audio was not used.")
    else:
        facts += _describe_audio(segments)
    if modality == "audio":
        facts.append("The video was not used.")
    else:
        facts += _describe_video(segments)
    return facts


def length_of(segment: _Segment) -> float:
    """Seconds."""
    return segment["end_seconds"] - segment["start_seconds"]


def _basis(segments: Sequence[_Segment]) -> str:
    total = sum(map(length_of, segments))
    audio = _seconds(segments, lambda segment: "audio" in segment["modalities"])
    video = _seconds(segments, lambda segment: "video" in segment["modalities"])
    if not audio and not video:
        return "There was no audio or video to predict from."
    if not video:
        return f"The prediction is based on the audio only{_part(audio, total)}."
    if not audio:
        return f"The prediction is based on the video only{_part(video, total)}."
    if _is_all(audio, total) and _is_all(video, total):
        return "The prediction is based on audio and video."
    return f"The prediction is based on the audio{_part(audio, total)} and on the video{_part(video, total)}."


def _describe_audio(segments: Sequence[_Segment]) -> list[str]:
    heard = [segment for segment in segments if segment["evidence"]["audio"] is not None]
    if not heard:
        return ["There is no audio."]
    total = sum(map(length_of, segments))
    silent = _seconds(heard, lambda segment: segment["evidence"]["audio"]["silent"])
    if _is_all(silent, total):
        return ["The audio is silent."]
    facts = []
    shares = [segment["evidence"]["audio"]["speech_share"] for segment in heard]
    if None in shares:
        facts.append("Speech detection was not run: it needs the extra foal-hf[speech].")
    else:
        spoken = sum(share * length_of(segment) for share, segment in zip(shares, heard, strict=True))
        facts.append(f"Speech was detected in {spoken:.1f} of {total:.1f} s." if spoken else "No speech was detected.")
    if silent:
        facts.append(f"The audio is silent{_part(silent, total)}.")
    if clipped := _seconds(heard, lambda segment: segment["evidence"]["audio"]["clipped"]):
        facts.append(f"The audio is clipped (recorded too loud){_part(clipped, total)}.")
    if len(heard) < len(segments):
        facts.append(f"There is audio{_part(sum(map(length_of, heard)), total)}.")
    return facts


def _describe_video(segments: Sequence[_Segment]) -> list[str]:
    seen = [segment for segment in segments if segment["evidence"]["video"] is not None]
    if not seen:
        return ["There is no video."]
    total = sum(map(length_of, segments))
    black = _seconds(seen, lambda segment: segment["evidence"]["video"]["black"])
    if _is_all(black, total):
        return ["The video is black."]
    facts = []
    if black:
        facts.append(f"The video is black{_part(black, total)}.")
    if frozen := _seconds(seen, lambda segment: bool(segment["evidence"]["video"]["frozen"])):
        facts.append(f"The video is frozen{_part(frozen, total)}.")
    if len(seen) < len(segments):
        facts.append(f"There is video{_part(sum(map(length_of, seen)), total)}.")
    return facts or ["There is video throughout, neither black nor frozen."]


def _seconds(segments: Iterable[_Segment], is_so: Callable[[_Segment], bool]) -> float:
    return sum(length_of(segment) for segment in segments if is_so(segment))


def _is_all(seconds: float, total: float) -> bool:
    return seconds >= total - 1e-3


def _part(seconds: float, total: float) -> str:
    return "" if _is_all(seconds, total) else f" in {seconds:.1f} of {total:.1f} s"


__all__ = ["describe_evidence", "length_of"]
