"""What an answer rests on and what was found in a recording, in plain words."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


_Segment = Mapping[str, Any]


def facts_in_words(segments: Sequence[_Segment], modality: str) -> list[str]:
    """What an answer rests on and what was found in the recording, a sentence each.

    Args:
        segments (`Sequence[Mapping]`): Of one recording, at least one.
        modality (`str`): What was looked at, as the pipeline's argument.
    """
    facts = [_basis(segments)]
    if modality == "video":
        facts.append("The sound was not looked at.")
    else:
        facts += _sound_in_words(segments)
    if modality == "audio":
        facts.append("The picture was not looked at.")
    else:
        facts += _picture_in_words(segments)
    return facts


def length_of(segment: _Segment) -> float:
    """Seconds."""
    return segment["end_seconds"] - segment["start_seconds"]


def _basis(segments: Sequence[_Segment]) -> str:
    total = sum(map(length_of, segments))
    sound = _seconds(segments, lambda segment: "audio" in segment["modalities"])
    picture = _seconds(segments, lambda segment: "video" in segment["modalities"])
    if not sound and not picture:
        return "There was nothing to judge by."
    if not picture:
        return f"The answer rests on the sound alone{_part(sound, total)}."
    if not sound:
        return f"The answer rests on the picture alone{_part(picture, total)}."
    if _is_all(sound, total) and _is_all(picture, total):
        return "The answer rests on sound and picture."
    return f"The answer rests on the sound{_part(sound, total)} and on the picture{_part(picture, total)}."


def _sound_in_words(segments: Sequence[_Segment]) -> list[str]:
    heard = [segment for segment in segments if segment["evidence"]["audio"] is not None]
    if not heard:
        return ["There is no sound."]
    total = sum(map(length_of, segments))
    silent = _seconds(heard, lambda segment: segment["evidence"]["audio"]["silent"])
    if _is_all(silent, total):
        return ["The sound is silent."]
    facts = []
    shares = [segment["evidence"]["audio"]["speech_share"] for segment in heard]
    if None in shares:
        facts.append("Nobody looked for speech: that takes the extra foal-hf[speech].")
    else:
        spoken = sum(share * length_of(segment) for share, segment in zip(shares, heard, strict=True))
        facts.append(f"Somebody speaks in {spoken:.1f} of {total:.1f} s." if spoken else "No speech was found.")
    if silent:
        facts.append(f"The sound is silent{_part(silent, total)}.")
    if clipped := _seconds(heard, lambda segment: segment["evidence"]["audio"]["clipped"]):
        facts.append(f"The sound is clipped, that is, recorded too loud{_part(clipped, total)}.")
    if len(heard) < len(segments):
        facts.append(f"There is sound{_part(sum(map(length_of, heard)), total)}.")
    return facts


def _picture_in_words(segments: Sequence[_Segment]) -> list[str]:
    seen = [segment for segment in segments if segment["evidence"]["video"] is not None]
    if not seen:
        return ["There is no picture."]
    total = sum(map(length_of, segments))
    black = _seconds(seen, lambda segment: segment["evidence"]["video"]["black"])
    if _is_all(black, total):
        return ["The picture is black."]
    facts = []
    if black:
        facts.append(f"The picture is black{_part(black, total)}.")
    if frozen := _seconds(seen, lambda segment: bool(segment["evidence"]["video"]["frozen"])):
        facts.append(f"The picture does not move{_part(frozen, total)}.")
    if len(seen) < len(segments):
        facts.append(f"There is a picture{_part(sum(map(length_of, seen)), total)}.")
    return facts or ["There is a picture throughout, neither black nor frozen."]


def _seconds(segments: Iterable[_Segment], is_so: Callable[[_Segment], bool]) -> float:
    return sum(length_of(segment) for segment in segments if is_so(segment))


def _is_all(seconds: float, total: float) -> bool:
    return seconds >= total - 1e-3


def _part(seconds: float, total: float) -> str:
    return "" if _is_all(seconds, total) else f" in {seconds:.1f} of {total:.1f} s"


__all__ = ["facts_in_words", "length_of"]
