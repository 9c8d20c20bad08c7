"""Small media with a known content, made with the `ffmpeg` command.

The picture tells the time: frame n of the 30 a second is grey, `LUMA_STEP * n` above black, and white while the sound
beeps. So a test reads off a decoded frame which moment it shows, and sees whether sound and picture stayed together.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import torch


WIDTH, HEIGHT = 62, 46
FRAMES_PER_SECOND = 30
LUMA_STEP = 2
BEEP_START, BEEP_STOP, BEEP_HERTZ = 1.5, 1.7, 1000
CLOCK_SECONDS = 3.0

_BEEPS = f"gte({{time}},{BEEP_START}-0.001)*lt({{time}},{BEEP_STOP}-0.001)"
CLOCK = (
    f"color=c=black:s={WIDTH}x{HEIGHT}:r={FRAMES_PER_SECOND}:d={CLOCK_SECONDS},"
    f"geq=lum='if({_BEEPS.format(time='T')},235,16+{LUMA_STEP}*N)':cb=128:cr=128"
)
BEEP = f"aevalsrc='0.5*sin(2*PI*{BEEP_HERTZ}*t)*{_BEEPS.format(time='t')}':s=44100:d={CLOCK_SECONDS}"


def run_ffmpeg(*arguments: object) -> None:
    """Run the ffmpeg command; its last argument is the file to write."""
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True, stdin=subprocess.DEVNULL)


def make_clip(
    path: Path, *options: object, video: str | None = CLOCK, audio: str | None = BEEP, inputs: tuple[object, ...] = ()
) -> Path:
    """Write a clip from lavfi graphs; `options` go before the output, `inputs` before both graphs."""
    arguments: list[object] = list(inputs)
    for graph in (video, audio):
        arguments += ["-f", "lavfi", "-i", graph] if graph else []
    if video and path.suffix in {".mp4", ".mkv", ".ts", ".mov"}:
        arguments += ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "10", "-g", "15", "-bf", "2"]
    run_ffmpeg(*arguments, *options, path)
    return path


def turned_clockwise(flat: Path, path: Path) -> Path:
    """A copy of an mp4 whose header asks players to turn the picture by 90 degrees, as phones write it."""
    data = bytearray(flat.read_bytes())
    matrix = data.index(b"tkhd") + 44  # behind the fixed-size fields of version 0
    struct.pack_into(">9i", data, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, HEIGHT << 16, 0, 1 << 30)
    path.write_bytes(data)
    return path


def tone(hertz: float, sampling_rate: int, seconds: float, amplitude: float = 0.5) -> torch.Tensor:
    """A sine, `(samples,)`."""
    times = torch.arange(round(seconds * sampling_rate), dtype=torch.float64) / sampling_rate
    return (amplitude * torch.sin(2 * torch.pi * hertz * times)).float()


def loudest_hertz(waveform: torch.Tensor, sampling_rate: int) -> float:
    """Frequency of the strongest component."""
    spectrum = torch.fft.rfft(waveform * torch.hann_window(len(waveform))).abs()
    return spectrum.argmax().item() * sampling_rate / len(waveform)


def clock_seconds(frames: torch.Tensor) -> list[float]:
    """The moments that frames of the clock show; infinity for the white ones."""
    luma = frames.float().mean((1, 2, 3)) * 219 / 255
    return [float("inf") if level > 210 else round(level / LUMA_STEP) / FRAMES_PER_SECOND for level in luma.tolist()]


def beep_start(waveform: torch.Tensor, sampling_rate: int) -> float:
    """When the beep sets in, seconds since the first sample."""
    return (waveform.abs() > 0.1).nonzero()[0].item() / sampling_rate


def flash_start(frames: torch.Tensor, frame_seconds: torch.Tensor) -> float:
    """When the first white frame is shown."""
    return frame_seconds[clock_seconds(frames).index(float("inf"))].item()
