"""Generated speech-like voices: a glottal source through moving formants (source-filter model), in numpy alone.

Nothing here is recorded. The voice babbles syllables of vowels and fricatives; `activation` moves pitch, spectral tilt,
tempo and loudness, as arousal does in real voices, and `valence` only spreads the lips a little.
"""

from dataclasses import dataclass

import numpy as np


SAMPLING_RATE = 16_000
"""Samples per second of every generated waveform, in Hz."""

CONTROL_RATE = 250
"""Steps per second of the slow tracks (pitch, formants, loudness), in Hz: ten per frame at 25 frames per second."""

_HOP = SAMPLING_RATE // CONTROL_RATE
_WINDOW = 5 * _HOP  # 20 ms: short against a syllable, long against the ringing of a formant
_FFT_SIZE = 16 * _HOP  # room for the window and 44 ms of ringing

# First three formants in Hz for a vocal tract of scale 1, and how far the jaw drops and the lips round (0 to 1).
_VOWELS = {
    "a": (730.0, 1150.0, 2450.0, 1.0, 0.0),
    "e": (520.0, 1850.0, 2500.0, 0.65, 0.0),
    "i": (290.0, 2250.0, 2950.0, 0.4, 0.0),
    "o": (530.0, 880.0, 2400.0, 0.75, 0.7),
    "u": (320.0, 900.0, 2250.0, 0.4, 1.0),
    "schwa": (500.0, 1450.0, 2480.0, 0.55, 0.1),
}
_VOWEL_TABLE = np.array(list(_VOWELS.values()))
_UPPER_FORMANTS = (3500.0, 4500.0)
_BANDWIDTHS = (70.0, 95.0, 140.0, 220.0, 300.0)


@dataclass(frozen=True)
class VoiceTraits:
    """What stays the same in everything that one speaker says.

    Args:
        pitch_hz (`float`): Fundamental frequency at medium activation.
        formant_scale (`float`): Formants relative to a vocal tract of 17.5 cm; larger for shorter tracts.
        tilt_db (`float`): Slope of the spectrum above 500 Hz at medium activation, in dB per octave.
        syllables_per_second (`float`): Tempo at medium activation.
        breathiness (`float`): Breath noise relative to the glottal pulses.
        vibrato_semitones (`float`): Depth of the 5 Hz to 6 Hz tremble of the pitch.
    """

    pitch_hz: float
    formant_scale: float
    tilt_db: float
    syllables_per_second: float
    breathiness: float
    vibrato_semitones: float


@dataclass(frozen=True)
class Voice:
    """A synthesised voice, and what a face needs in order to move with it.

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`): float32 in [-1, 1], at `SAMPLING_RATE`.
        opening (`np.ndarray` of shape `(num_steps,)`): Opening of the mouth, 0 (closed) to 1, at `CONTROL_RATE`. It
            follows the loudness within the clip, not from clip to clip: a frame does not show how loud a clip is.
        rounding (`np.ndarray` of shape `(num_steps,)`): Rounding of the lips, 0 (spread) to 1, at `CONTROL_RATE`.
    """

    waveform: np.ndarray
    opening: np.ndarray
    rounding: np.ndarray


def draw_voice_traits(rng: np.random.Generator, gender: str) -> VoiceTraits:
    """Draw the voice of a speaker; `gender` is `"female"` or `"male"` and sets the range of pitch and formants."""
    female = gender == "female"
    return VoiceTraits(
        pitch_hz=rng.uniform(190.0, 220.0) if female else rng.uniform(108.0, 126.0),
        formant_scale=(1.15 if female else 1.0) * rng.uniform(0.95, 1.05),
        tilt_db=rng.uniform(-5.0, -3.0),
        syllables_per_second=rng.uniform(3.9, 4.7),
        breathiness=rng.uniform(0.03, 0.06),
        vibrato_semitones=rng.uniform(0.1, 0.35),
    )


def synthesize_voice(
    traits: VoiceTraits, activation: np.ndarray, valence: np.ndarray, rng: np.random.Generator
) -> Voice:
    """Speak nonsense syllables for as long as the two tracks last.

    Args:
        traits ([`VoiceTraits`]): The speaker.
        activation (`np.ndarray` of shape `(num_steps,)`): Arousal at `CONTROL_RATE`; -1 is calm, 1 is aroused. Raises
            pitch, pitch range, tempo and loudness, flattens the spectrum, and shortens pauses and breath.
        valence (`np.ndarray` of shape `(num_steps,)`): Pleasantness at `CONTROL_RATE`; -1 to 1 moves the formants by
            the few percent that a smile moves them, and makes consonants crisper.
        rng (`np.random.Generator`): Source of everything that differs between clips.

    Returns:
        [`Voice`]: The waveform, `64 * num_steps` samples long, and the movement of the mouth.
    """
    if activation.shape != valence.shape or activation.ndim != 1:
        raise ValueError(
            "activation and valence must be one-dimensional and equally long, "
            f"got shapes {activation.shape} and {valence.shape}."
        )
    num_steps = len(activation)
    syllables = _plan_syllables(traits, activation, rng)
    envelope, frication, accent, vowel = _articulate(syllables, num_steps)

    pitch_hz = _pitch(traits, activation, accent, rng)
    tilt_db = traits.tilt_db + rng.normal(0.0, 0.5) + 3.2 * activation
    formants_hz = vowel[:, :3] * (traits.formant_scale * (1.0 + 0.04 * valence))[:, None]

    pulses = _glottal_pulses(_upsample(pitch_hz)) * _upsample(envelope)
    breath_level = traits.breathiness * 2.0 ** (-0.8 * activation) * envelope
    breath = rng.standard_normal(len(pulses)) * _upsample(breath_level)
    voiced = _filter(pulses + breath, _vocal_tract(formants_hz, traits.formant_scale) * _tilt(tilt_db))
    hiss = _filter(rng.standard_normal(len(pulses)) * _upsample(frication), _fricative_filter(traits.formant_scale))

    crispness_db = -6.0 + 4.0 * valence  # of the consonants
    speech = voiced / (np.sqrt(np.mean(voiced**2)) + 1e-9) + _upsample(10.0 ** (crispness_db / 20.0)) * hiss
    room = np.cumsum(rng.standard_normal(len(pulses)))
    room -= np.convolve(room, np.full(256, 1 / 256), mode="same")  # brown noise without its drift
    room /= np.std(room)
    level_db = -23.0 + 3.0 * activation + rng.normal(0.0, 1.5)
    waveform = speech * _upsample(10.0 ** (level_db / 20.0)) + 0.002 * room
    waveform = np.tanh(waveform)  # rounds off the rare peak instead of clipping it

    opening = _smooth(envelope * vowel[:, 3], 0.06)
    return Voice(
        waveform=waveform.astype(np.float32),
        opening=np.clip(opening / max(opening.max(), 1e-6), 0.0, 1.0),
        rounding=_smooth(vowel[:, 4], 0.08),
    )


@dataclass(frozen=True)
class _Syllable:
    start_seconds: float
    end_seconds: float
    vowel: int
    stress: float
    fricative: bool


def _plan_syllables(traits: VoiceTraits, activation: np.ndarray, rng: np.random.Generator) -> list[_Syllable]:
    """Lay syllables and pauses one after the other, at the tempo of the moment."""
    total_seconds = len(activation) / CONTROL_RATE
    clip_tempo = rng.normal(1.0, 0.06)
    syllables: list[_Syllable] = []
    start_seconds = rng.uniform(0.04, 0.12)
    until_pause = int(rng.integers(4, 8))
    while True:
        level = float(activation[min(int(start_seconds * CONTROL_RATE), len(activation) - 1)])
        tempo = traits.syllables_per_second * clip_tempo * 2.0 ** (0.3 * level)
        end_seconds = start_seconds + rng.uniform(0.8, 1.25) / tempo
        vowel, stress, fricative = int(rng.integers(len(_VOWELS))), rng.uniform(0.55, 1.0), rng.random() < 0.4
        if end_seconds > total_seconds - 0.05:
            return syllables
        syllables.append(_Syllable(start_seconds, end_seconds, vowel, stress, bool(fricative)))
        start_seconds = end_seconds
        until_pause -= 1
        if until_pause == 0:
            start_seconds += rng.uniform(0.12, 0.22) * 2.0 ** (-0.4 * level)
            until_pause = int(rng.integers(4, 8))


def _articulate(syllables: list[_Syllable], num_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Turn syllables into tracks: loudness, hiss, pitch accent, and the vowel table's columns `(num_steps, 5)`."""
    times = (np.arange(num_steps) + 0.5) / CONTROL_RATE
    envelope, frication, accent = np.zeros(num_steps), np.zeros(num_steps), np.zeros(num_steps)
    for syllable in syllables:
        phase = (times - syllable.start_seconds) / (syllable.end_seconds - syllable.start_seconds)
        inside = (phase >= 0.0) & (phase < 1.0)
        bump = np.sin(np.pi * phase[inside])
        envelope[inside] = syllable.stress * (0.05 + 0.95 * np.sqrt(bump))
        accent[inside] = (syllable.stress - 0.75) * bump
        if syllable.fricative:
            onset = inside & (phase < 0.3)
            frication[onset] = np.sin(np.pi * phase[onset] / 0.3)
            envelope[onset] *= 0.25 + 0.75 * phase[onset] / 0.3
    centres = [(syllable.start_seconds + syllable.end_seconds) / 2 for syllable in syllables]
    targets = _VOWEL_TABLE[[syllable.vowel for syllable in syllables]]
    columns = [_smooth(np.interp(times, centres, target), 0.04) for target in targets.T]
    return _smooth(envelope, 0.02), _smooth(frication, 0.012), accent, np.stack(columns, axis=1)


def _pitch(traits: VoiceTraits, activation: np.ndarray, accent: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fundamental frequency `(num_steps,)` in Hz: level, accents, declination, vibrato and jitter, in semitones."""
    num_steps = len(activation)
    times = np.arange(num_steps) / CONTROL_RATE
    semitones = rng.normal(0.0, 0.6) + 3.0 * activation
    semitones += (5.0 + 3.0 * activation) * accent
    semitones -= 1.5 * (times - times.mean()) / max(times[-1], 1e-6)
    vibrato_hz, vibrato_phase = rng.uniform(5.0, 6.0), rng.uniform(0.0, 2 * np.pi)
    semitones += traits.vibrato_semitones * np.sin(2 * np.pi * vibrato_hz * times + vibrato_phase)
    semitones += 0.25 * _smooth(rng.standard_normal(num_steps), 0.012)  # jitter
    return traits.pitch_hz * 2.0 ** (semitones / 12.0)


def _glottal_pulses(pitch_hz: np.ndarray) -> np.ndarray:
    """Derivative of a Rosenberg glottal flow: slow opening, fast closing, a closed rest; one period a cycle."""
    phase = np.cumsum(pitch_hz / SAMPLING_RATE) % 1.0
    opens, closes = 0.42, 0.16  # parts of the cycle
    rising = 0.5 * np.pi / opens * np.sin(np.pi * phase / opens)
    falling = -0.5 * np.pi / closes * np.sin(0.5 * np.pi * (phase - opens) / closes)
    return np.where(phase < opens, rising, np.where(phase < opens + closes, falling, 0.0))


def _frequencies() -> np.ndarray:
    return np.fft.rfftfreq(_FFT_SIZE, 1 / SAMPLING_RATE).astype(np.float32)


def _vocal_tract(formants_hz: np.ndarray, formant_scale: float) -> np.ndarray:
    """Complex response `(num_steps, bins)` of a cascade of resonances, with 1 at 0 Hz."""
    frequency = _frequencies()
    response = np.ones((len(formants_hz), len(frequency)), dtype=np.complex64)
    upper = np.broadcast_to(np.array(_UPPER_FORMANTS) * formant_scale, (len(formants_hz), 2))
    for centre, bandwidth in zip(np.concatenate([formants_hz, upper], axis=1).T, _BANDWIDTHS, strict=True):
        squared = (centre**2).astype(np.float32)[:, None]
        response *= squared / (squared - frequency**2 + np.complex64(1j * bandwidth) * frequency)
    return response


def _tilt(tilt_db: np.ndarray) -> np.ndarray:
    """Gain `(num_steps, bins)` that is flat up to 500 Hz and falls by `tilt_db` dB per octave above."""
    octaves = np.log2(np.maximum(_frequencies(), 500.0) / 500.0)
    return 10.0 ** (tilt_db.astype(np.float32)[:, None] * octaves / 20.0)


def _fricative_filter(formant_scale: float) -> np.ndarray:
    """Gain `(1, bins)` of a broad noise band near 4.5 kHz."""
    distance = (_frequencies() - 4500.0 * formant_scale) / 1500.0
    return np.exp(-0.5 * distance**2)[None, :]


def _filter(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Filter `signal` by a response that changes with every step: windowed spectra times `response`, overlap-added."""
    num_steps = len(signal) // _HOP
    padded = np.pad(signal, (_WINDOW // 2, _WINDOW)).astype(np.float32)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)).astype(np.float32) * (2.0 * _HOP / _WINDOW)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[: num_steps * _HOP : _HOP] * window
    windowed = np.fft.irfft(np.fft.rfft(windows, _FFT_SIZE) * response, _FFT_SIZE)
    hops_per_window = _FFT_SIZE // _HOP
    output = np.zeros((num_steps + hops_per_window, _HOP))
    for hop in range(hops_per_window):
        output[hop : hop + num_steps] += windowed[:, hop * _HOP : (hop + 1) * _HOP]
    return output.reshape(-1)[_WINDOW // 2 :][: len(signal)]


def _upsample(track: np.ndarray) -> np.ndarray:
    """A track at `CONTROL_RATE` as one value per sample, by linear interpolation."""
    steps = (np.arange(len(track) * _HOP) + 0.5) / _HOP - 0.5
    return np.interp(steps, np.arange(len(track)), track)


def _smooth(track: np.ndarray, seconds: float) -> np.ndarray:
    """Average `track` over a Hann window of `2 * seconds`, its ends repeated."""
    reach = max(int(seconds * CONTROL_RATE), 1)
    kernel = np.hanning(2 * reach + 1)
    return np.convolve(np.pad(track, reach, mode="edge"), kernel / kernel.sum(), mode="valid")
