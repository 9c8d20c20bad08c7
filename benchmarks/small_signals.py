"""Voices and faces that foal-net-small learns from, who is kept out of what, and how they are varied in training.

A voice is varied once, on its samples, and kept as several spectrograms; what is cheap (a random part, masks, the
length of the vocal tract) is drawn anew each time. Only the voice itself enters its variations: no other speaker does.
"""

import io
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.model_selection import GroupKFold

from foal_hf.experiments.small import make_small_processor
from foal_hf.foal_net.media_foal_net import read_clip


SAMPLING_RATE = 16_000
TEACHER_HOP, TEACHER_WINDOW = 0.08, 0.76  # seconds, of voices.parquet's embeddings
NUM_VARIATIONS = 6


@dataclass(frozen=True)
class Voices:
    """Spoken clips.

    Args:
        clip_ids, speakers, emotions (`list[str]`): Of each clip.
        spectrograms (`list[list[torch.Tensor]]`): Of each clip as it is, then of its variations; `(frames, bins)`.
        speeds (`list[list[float]]`): How much faster each of them is than the clip.
        embeddings (`list[torch.Tensor]`): The teacher's, `(positions, width)`.
    """

    clip_ids: list[str]
    speakers: list[str]
    emotions: list[str]
    spectrograms: list[list[torch.Tensor]]
    speeds: list[list[float]]
    embeddings: list[torch.Tensor]


@dataclass(frozen=True)
class Faces:
    """Face crops.

    Args:
        face_ids, persons, emotions (`list[str]`): Of each crop.
        images (`torch.Tensor`): `(faces, 3, height, width)`, uint8.
        features (`torch.Tensor`): The teacher's, `(faces, width)`.
    """

    face_ids: list[str]
    persons: list[str]
    emotions: list[str]
    images: torch.Tensor
    features: torch.Tensor


def read_voices(path: Path, cache: Path, workers: int) -> Voices:
    """The clips of voices.parquet and their variations, which are kept in `cache`."""
    rows = pq.read_table(path).to_pylist()
    if cache.is_file():
        varied = torch.load(cache)
    else:
        torch.set_num_threads(1)
        with ProcessPoolExecutor(workers) as pool:
            jobs = [(row["audio"]["bytes"], index) for index, row in enumerate(rows)]
            varied = list(pool.map(vary_voice, *zip(*jobs, strict=True), chunksize=16))
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(varied, unfinished := cache.with_suffix(".unfinished"))
        unfinished.rename(cache)
    return Voices(
        [row["clip_id"] for row in rows],
        [row["speaker"] for row in rows],
        [row["emotion"] for row in rows],
        [[spectrogram for spectrogram, _ in each] for each in varied],
        [[speed for _, speed in each] for each in varied],
        [torch.tensor(np.array(row["speech_embedding"], dtype=np.float32)) for row in rows],
    )


def read_faces(path: Path) -> Faces:
    """The crops of faces.parquet."""
    rows = pq.read_table(path).to_pylist()
    images = [np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")) for row in rows]
    return Faces(
        [row["face_id"] for row in rows],
        [row["person"] for row in rows],
        [row["emotion"] for row in rows],
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        torch.tensor(np.array([row["face_features"] for row in rows], dtype=np.float32)),
    )


def groups_of(metadata: pd.DataFrame, num_folds: int) -> list[np.ndarray]:
    """Rows of the test clips of each fold: three speakers each."""
    folds = GroupKFold(num_folds).split(metadata, groups=metadata["speaker"])
    return [test for _, test in folds]


def without(people: Sequence[str], held_out: Collection[str]) -> np.ndarray:
    """Indices of the examples of other people."""
    return np.flatnonzero(~np.isin(people, list(held_out)))


def vary_voice(encoded: bytes, seed: int) -> list[tuple[torch.Tensor, float]]:
    """Spectrograms of a clip as it is and varied, in half precision, with the speed of each."""
    extractor = make_small_processor().feature_extractor
    voice = read_clip(audio=encoded, modalities=("audio",), sampling_rate=SAMPLING_RATE, max_seconds=None).waveform
    random = np.random.default_rng(seed)
    varied: list[tuple[np.ndarray, float]] = [(voice.numpy(), 1.0)]
    varied += [_vary(voice.numpy(), number, random) for number in range(NUM_VARIATIONS)]
    return [
        (extractor(each, sampling_rate=SAMPLING_RATE, return_tensors="pt")["input_features"][0].half(), speed)
        for each, speed in varied
    ]


def _vary(voice: np.ndarray, number: int, random: np.random.Generator) -> tuple[np.ndarray, float]:
    speed = random.uniform(0.88, 1.14)
    positions = np.arange(0, len(voice) - 1, speed)
    voice = np.interp(positions, np.arange(len(voice)), voice)
    if random.random() < 0.35:
        voice = _reverberate(voice, random)
    if random.random() < 0.7:
        background = _music if random.random() < 0.25 else _noise
        voice = voice + _scaled(background(len(voice), random), voice, random.uniform(5, 35))
    voice = (voice / max(np.abs(voice).max(), 1e-5) * 10 ** (-random.uniform(1, 30) / 20)).astype(np.float32)
    if number % 3 == 0:  # with the encoders' own choices, so that not all clips were never encoded
        voice = _encode(voice, *(("aac", "adts"), ("mp3", "mp3"), ("libopus", "ogg"))[int(random.integers(3))], random)
    elif random.random() < 0.2:
        voice = _telephone(voice)
    return voice, speed


def _reverberate(voice: np.ndarray, random: np.random.Generator) -> np.ndarray:
    seconds = random.uniform(0.1, 0.5)
    times = np.arange(int(seconds * SAMPLING_RATE))
    echo = random.standard_normal(len(times)) * np.exp(-6.9 * times / len(times))
    echo *= random.uniform(0.2, 0.8) / np.linalg.norm(echo)
    echo[0] = 1
    size = len(voice) + len(echo)
    return np.fft.irfft(np.fft.rfft(voice, size) * np.fft.rfft(echo, size), size)[: len(voice)]


def _noise(samples: int, random: np.random.Generator) -> np.ndarray:
    """From white to brown."""
    spectrum = np.fft.rfft(random.standard_normal(samples))
    return np.fft.irfft(spectrum / np.arange(1, len(spectrum) + 1) ** random.uniform(0, 1), samples)


def _music(samples: int, random: np.random.Generator) -> np.ndarray:
    """Chords of three notes, each with four overtones that die away."""
    times, chord = np.arange(samples) / SAMPLING_RATE, random.uniform(0.3, 1.0)
    since = times % chord
    numbers = (times // chord).astype(int)
    notes = 110 * 2 ** (random.integers(0, 36, (numbers[-1] + 1, 3)) / 12)
    tones = [
        np.sin(2 * np.pi * overtone * notes[numbers, note] * times) / overtone
        for note in range(3)
        for overtone in range(1, 5)
    ]
    return np.sum(tones, axis=0) * np.exp(-3 * since / chord)


def _scaled(noise: np.ndarray, voice: np.ndarray, decibels: float) -> np.ndarray:
    """The noise so far below the voice."""
    return noise * voice.std() / max(noise.std(), 1e-9) * 10 ** (-decibels / 20)


def _telephone(voice: np.ndarray) -> np.ndarray:
    """300 to 3400 Hz, in 256 steps of the mu-law."""
    spectrum, frequencies = np.fft.rfft(voice), np.fft.rfftfreq(len(voice), 1 / SAMPLING_RATE)
    voice = np.fft.irfft(spectrum * ((frequencies > 300) & (frequencies < 3400)), len(voice))
    steps = np.round(np.sign(voice) * np.log1p(255 * np.abs(voice).clip(0, 1)) / np.log(256) * 127) / 127
    return (np.sign(steps) * (256 ** np.abs(steps) - 1) / 255).astype(np.float32)


def _encode(voice: np.ndarray, codec: str, container: str, random: np.random.Generator) -> np.ndarray:
    """Through a codec at a low bit rate and back."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=SAMPLING_RATE, layout="mono")
        stream.bit_rate = int(random.choice([24_000, 32_000, 64_000]))
        frame = av.AudioFrame.from_ndarray(voice[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLING_RATE
        resampler = av.AudioResampler(stream.format.name, "mono", SAMPLING_RATE)
        for packet in [p for each in resampler.resample(frame) for p in stream.encode(each)] + stream.encode(None):
            output.mux(packet)
    file.seek(0)
    clip = read_clip(audio=file.getvalue(), modalities=("audio",), sampling_rate=SAMPLING_RATE, max_seconds=None)
    return clip.waveform.numpy()


def draw_spectrogram(
    voices: Voices, index: int, frames: int, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A part of a variation of a voice, masked and warped, and the teacher's position of each of its frames.

    Returns:
        The spectrogram `(frames, bins)`, and `(frames,)` positions in the clip's embeddings, which need not be whole.
    """
    which = int(random.integers(len(voices.spectrograms[index])))
    spectrogram, speed = voices.spectrograms[index][which].float(), voices.speeds[index][which]
    start = 0
    if len(spectrogram) > frames:  # where there is speech: the quietest frames hold the least
        energy = (spectrogram.mean(1) - spectrogram.mean(1).min()).cumsum(0)
        centre = int((energy < random.random() * energy[-1]).sum())
        start = int(np.clip(centre - random.integers(frames), 0, len(spectrogram) - frames))
        spectrogram = spectrogram[start : start + frames]
    spectrogram = _warp(spectrogram, random.uniform(0.88, 1.12)).clone()
    for _ in range(2):
        width = int(random.integers(13))
        first = int(random.integers(max(1, len(spectrogram) - width)))
        spectrogram[first : first + width] = 0
        width, half = int(random.integers(13)), spectrogram.shape[1] // 2
        first = int(random.integers(half - width))
        for side in (first, half + first):  # both halves of a frame: see make_small_processor
            spectrogram[:, side : side + width] = 0
    seconds = (start + torch.arange(len(spectrogram)) + 0.5) * 0.02 * speed
    return spectrogram, (seconds - TEACHER_WINDOW / 2) / TEACHER_HOP


def _warp(spectrogram: torch.Tensor, factor: float) -> torch.Tensor:
    """As of a shorter or longer vocal tract: each bin from the one that lies so many times as high."""
    half = spectrogram.shape[1] // 2
    place = (torch.arange(half) * factor).clamp(max=half - 1)
    low = place.floor().long()
    share, high = place - low, (low + 1).clamp(max=half - 1)
    halves = spectrogram.unflatten(1, (2, half))
    return (halves[..., low] * (1 - share) + halves[..., high] * share).flatten(1)


def pad(spectrograms: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch and its mask, 1 for frames."""
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(each), dtype=torch.long) for each in spectrograms], True)
    return torch.nn.utils.rnn.pad_sequence(list(spectrograms), True), mask


def vary_faces(images: torch.Tensor, pixels: int, random: torch.Generator) -> torch.Tensor:
    """Other crops, tilted, mirrored, dimmed, tinted, blurred, compressed, noisy or partly hidden faces.

    Args:
        images: `(faces, 3, height, width)`, uint8.

    Returns:
        `(faces, 3, pixels, pixels)`, as the processor gives them.
    """
    size = len(images)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.empty(size, *shape).uniform_(low, high, generator=random)

    zoom, angle, ratio = uniform(0.5, 1.1), uniform(-0.3, 0.3), uniform(0.92, 1.08)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    across = torch.stack([zoom * ratio * angle.cos() * mirror, -zoom * angle.sin(), uniform(-0.12, 0.12)], 1)
    down = torch.stack([zoom * angle.sin() * mirror, zoom / ratio * angle.cos(), uniform(-0.12, 0.12)], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), [size, 3, pixels, pixels], align_corners=False)
    faces = F.grid_sample(images.float() / 255, grid, padding_mode="border", align_corners=False)
    faces = faces.clamp(1e-4, 1) ** uniform(-0.5, 0.5, 1, 1, 1).exp()
    mean = faces.mean((1, 2, 3), keepdim=True)
    faces = (faces - mean) * uniform(0.6, 1.3, 1, 1, 1) + mean * uniform(0.7, 1.2, 1, 1, 1)
    faces = faces * uniform(0.85, 1.15, 3, 1, 1)
    chance = torch.rand(3, generator=random)
    if chance[0] < 0.4:  # blurred
        small = F.avg_pool2d(faces, 2 if chance[0] < 0.25 else 3)
        faces = F.interpolate(small, size=(pixels, pixels), mode="bilinear", align_corners=False)
    if chance[1] < 0.3:
        faces = faces + torch.randn(faces.shape, generator=random) * (0.05 * chance[2])
    elif chance[1] < 0.4:  # the blocks of a compressed image
        faces = 0.5 * faces + 0.5 * F.interpolate(F.avg_pool2d(faces, 4), size=(pixels, pixels))
    for face in range(size):
        if torch.rand((), generator=random) < 0.3:
            height, width = (int(torch.randint(pixels // 8, pixels // 3, (), generator=random)) for _ in range(2))
            top, left = (int(torch.randint(pixels - side, (), generator=random)) for side in (height, width))
            faces[face, :, top : top + height, left : left + width] = torch.rand((), generator=random)
    return normalized(faces)


def normalized(faces: torch.Tensor) -> torch.Tensor:
    """As [`make_small_processor`] does it, from values in [0, 1]."""
    return ((faces.clamp(0, 1) - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)


def resized(images: torch.Tensor, pixels: int) -> torch.Tensor:
    """Crops as they are, at the size of the encoder."""
    faces = F.interpolate(images.float() / 255, size=(pixels, pixels), mode="bilinear", antialias=True)
    return normalized(faces)


def shares(names: Sequence[str], power: float) -> np.ndarray:
    """The probability of drawing each example: rare classes more often than they are, all equally often at power 1."""
    counts = pd.Series(names).value_counts()
    weights = np.array([1 / counts[name] for name in names]) ** power
    return weights / weights.sum()


def indices(names: Sequence[str], of: Mapping[str, int] | Sequence[str]) -> torch.Tensor:
    """Class of each example."""
    order: dict[str, Any] = dict(of) if isinstance(of, Mapping) else {name: index for index, name in enumerate(of)}
    return torch.tensor([order[name] for name in names])
