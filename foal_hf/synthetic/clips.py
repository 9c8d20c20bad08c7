"""One generated clip: an emotion, a speaker and a number become a waveform and frames.

The voice shows arousal (`activation`), the face shows `valence`, and each has a faint cue to the other dimension:

    emotion    activation (voice)   valence (face)
    happy            high              positive
    neutral          low               positive
    sad              low               negative
    angry            high              negative

So each modality alone leaves two emotions that differ in a faint cue only; both together determine the emotion.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .drawing import draw_faces
from .face import FRAME_RATE, FaceTraits, draw_face_traits, move_face
from .voice import CONTROL_RATE, VoiceTraits, draw_voice_traits, synthesize_voice


EMOTIONS = ("happy", "neutral", "sad", "angry")
"""The four classes, in the order of their published indices."""

MIN_SECONDS, MAX_SECONDS = 1.2, 2.4
"""Shortest and longest clip, in seconds."""

_ACTIVATION = {"happy": 1.0, "neutral": -1.0, "sad": -1.0, "angry": 1.0}
_VALENCE = {"happy": 1.0, "neutral": 1.0, "sad": -1.0, "angry": -1.0}
_SPREAD = 0.18  # of activation and valence from clip to clip of one emotion
_LEAK = 0.55  # how strong the cue to the other modality's dimension is, against noise of size 1
_STEPS_PER_FRAME = CONTROL_RATE // FRAME_RATE


@dataclass(frozen=True)
class Speaker:
    """A generated person.

    Args:
        index (`int`): Number of the speaker, from 0.
        gender (`str`): `"female"` for even indices, `"male"` for odd ones.
        voice ([`VoiceTraits`]): How they sound.
        face ([`FaceTraits`]): What they look like.
    """

    index: int
    gender: str
    voice: VoiceTraits
    face: FaceTraits

    @property
    def name(self) -> str:
        """The name in file names and tables, such as `"speaker03"`."""
        return f"speaker{self.index:02d}"


@dataclass(frozen=True)
class Affect:
    """What one clip expresses, each about -1 to 1.

    Args:
        activation (`float`): Arousal, shown by the voice.
        valence (`float`): Pleasantness, shown by the face.
        voice_valence (`float`): The faint cue to valence in the voice, mostly noise.
        face_activation (`float`): The faint cue to activation in the face, mostly noise.
    """

    activation: float
    valence: float
    voice_valence: float
    face_activation: float


def make_speaker(index: int, seed: int = 0) -> Speaker:
    """Make the speaker of this number; the same numbers always give the same speaker."""
    rng = _generator(seed, "speaker", index)
    gender = ("female", "male")[index % 2]
    return Speaker(index, gender, draw_voice_traits(rng, gender), draw_face_traits(rng, gender))


def draw_affect(emotion: str, rng: np.random.Generator) -> Affect:
    """Draw how strongly one clip shows `emotion`, one of [`EMOTIONS`]."""
    activation, valence = _ACTIVATION[emotion], _VALENCE[emotion]
    spread, leak = rng.normal(0.0, _SPREAD, 2), rng.normal(0.0, 1.0, 2)
    return Affect(
        activation=activation + spread[0],
        valence=valence + spread[1],
        voice_valence=_LEAK * valence + leak[0],
        face_activation=_LEAK * activation + leak[1],
    )


@dataclass(frozen=True)
class ClipPlan:
    """What is decided about a clip before it is generated.

    Args:
        affect ([`Affect`]): What the clip expresses.
        seconds (`float`): Length, a whole number of frames.
    """

    affect: Affect
    seconds: float


def plan_clip(emotion: str, *, speaker: int = 0, clip: int = 0, seed: int = 0) -> ClipPlan:
    """What [`synthesize_clip`] with the same arguments shows, without generating it."""
    return _plan(emotion, _clip_generator(emotion, speaker, clip, seed))


def synthesize_clip(
    emotion: str, *, speaker: int = 0, clip: int = 0, seed: int = 0, image_size: int = 96
) -> tuple[np.ndarray, np.ndarray]:
    """Generate one labelled clip. A pure function: equal arguments give equal arrays.

    Args:
        emotion (`str`): One of [`EMOTIONS`].
        speaker (`int`, defaults to 0): Number of the speaker.
        clip (`int`, defaults to 0): Number of the clip among those of this speaker and emotion.
        seed (`int`, defaults to 0): Another seed is another corpus with other speakers.
        image_size (`int`, defaults to 96): Height and width of the frames in pixels, even.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: The waveform `(num_samples,)`, float32 in [-1, 1] at 16 kHz, and the frames
        `(num_frames, image_size, image_size, 3)`, uint8 RGB at 25 per second. Both have the same length, 1.2 s to
        2.4 s.

    Raises:
        ValueError: If `emotion` is not one of the four, or a number is negative.

    Example:

    ```python
    >>> waveform, frames = synthesize_clip("happy", speaker=3)
    >>> len(waveform) / 16_000 == len(frames) / 25
    True
    ```
    """
    rng = _clip_generator(emotion, speaker, clip, seed)
    plan = _plan(emotion, rng)
    num_frames = round(plan.seconds * FRAME_RATE)
    return _perform(make_speaker(speaker, seed), [plan.affect], [num_frames], rng, image_size)


def synthesize_recording(
    emotions: Sequence[str], *, speaker: int = 0, seconds_each: float = 3.0, seed: int = 0, image_size: int = 96
) -> tuple[np.ndarray, np.ndarray, list[tuple[float, float, str]]]:
    """Generate one recording in which a speaker goes through several emotions without a cut.

    Args:
        emotions (`Sequence[str]`): What is shown, in order, each one of [`EMOTIONS`].
        speaker (`int`, defaults to 0): Number of the speaker.
        seconds_each (`float`, defaults to 3.0): Length of every part in seconds, rounded to whole frames.
        seed (`int`, defaults to 0): Seed of the corpus that the speaker belongs to.
        image_size (`int`, defaults to 96): Height and width of the frames in pixels, even.

    Returns:
        `tuple`: Waveform and frames as [`synthesize_clip`] returns them, and the parts as
        `(start_seconds, end_seconds, emotion)`, half open and gapless.

    Raises:
        ValueError: If there is no emotion, one is unknown, or `seconds_each` is below one second.
    """
    if isinstance(emotions, str) or not emotions:
        raise ValueError(f"emotions must be a list of at least one of {EMOTIONS}, got {emotions!r}.")
    if seconds_each < 1.0:
        raise ValueError(f"seconds_each must be at least 1.0 (a few syllables), got {seconds_each}.")
    for emotion in emotions:
        _check_clip(emotion, speaker, 0, seed)
    rng = _generator(seed, "recording", speaker, *(EMOTIONS.index(emotion) for emotion in emotions))
    frames_each = round(seconds_each * FRAME_RATE)
    affects = [draw_affect(emotion, rng) for emotion in emotions]
    waveform, frames = _perform(make_speaker(speaker, seed), affects, [frames_each] * len(affects), rng, image_size)
    starts = [part * frames_each / FRAME_RATE for part in range(len(emotions) + 1)]
    return waveform, frames, list(zip(starts[:-1], starts[1:], emotions, strict=True))


def _plan(emotion: str, rng: np.random.Generator) -> ClipPlan:
    affect = draw_affect(emotion, rng)
    num_frames = int(rng.integers(round(MIN_SECONDS * FRAME_RATE), round(MAX_SECONDS * FRAME_RATE) + 1))
    return ClipPlan(affect, num_frames / FRAME_RATE)


def _perform(
    speaker: Speaker, affects: list[Affect], num_frames: list[int], rng: np.random.Generator, image_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Let `speaker` show each affect for its number of frames, with smooth transitions."""
    steps = [count * _STEPS_PER_FRAME for count in num_frames]
    activation = _glide(np.repeat([affect.activation for affect in affects], steps))
    voice_valence = _glide(np.repeat([affect.voice_valence for affect in affects], steps))
    valence = _glide(np.repeat([affect.valence for affect in affects], steps))
    brow_slant = _glide(np.repeat([affect.face_activation for affect in affects], steps))

    voice = synthesize_voice(speaker.voice, activation, voice_valence, rng)
    frame = np.s_[_STEPS_PER_FRAME // 2 :: _STEPS_PER_FRAME]  # the middle of each frame's interval
    pose = move_face(voice.opening[frame], voice.rounding[frame], valence[frame], brow_slant[frame], rng)
    return voice.waveform, draw_faces(speaker.face, pose, image_size=image_size)


def _glide(track: np.ndarray) -> np.ndarray:
    """Average over 0.2 s; the ends are repeated."""
    reach = CONTROL_RATE // 10
    kernel = np.full(2 * reach + 1, 1.0 / (2 * reach + 1))
    return np.convolve(np.pad(track, reach, mode="edge"), kernel, mode="valid")


def _clip_generator(emotion: str, speaker: int, clip: int, seed: int) -> np.random.Generator:
    _check_clip(emotion, speaker, clip, seed)
    return _generator(seed, "clip", speaker, EMOTIONS.index(emotion), clip)


def _check_clip(emotion: str, speaker: int, clip: int, seed: int) -> None:
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion must be one of {EMOTIONS}, got {emotion!r}.")
    if min(speaker, clip, seed) < 0:
        raise ValueError(f"speaker, clip and seed must not be negative, got {speaker=}, {clip=}, {seed=}.")


def _generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """An independent random stream for every purpose and every tuple of numbers."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *numbers])
