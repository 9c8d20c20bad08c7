"""Writes one waveform and its pictures as an mp4 file: H.264 and AAC, through torchcodec and FFmpeg."""

import io
import os
from pathlib import Path

import numpy as np

from .face import FRAME_RATE
from .voice import SAMPLING_RATE


VIDEO_ENCODER = "libx264"
AUDIO_ENCODER = "aac"

_WAY_OUT = (
    "Install an FFmpeg that has it (Debian and Ubuntu: `apt-get install ffmpeg`, macOS: `brew install ffmpeg`); "
    "`ffmpeg -encoders` lists what is there."
)


def encode_mp4(waveform: np.ndarray, frames: np.ndarray) -> bytes:
    """Encode one clip as the bytes of an mp4 file.

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`): float32 in [-1, 1], at 16 kHz.
        frames (`np.ndarray` of shape `(num_frames, height, width, 3)`): uint8 RGB, 25 a second.

    Returns:
        `bytes`: The file. Equal arrays give equal bytes with one build of FFmpeg.
    """
    import torch
    from torchcodec.encoders import Encoder

    _, height, width, _ = frames.shape
    encoder = Encoder()
    video = encoder.add_video(
        height=height,
        width=width,
        frame_rate=FRAME_RATE,
        device="cpu",
        codec=VIDEO_ENCODER,
        pixel_format="yuv420p",  # what browsers and phones play
        crf=18,
        preset="veryfast",
        # The bytes must depend on the pictures alone: not on the number of cores, nor on what x264's vector code (asm)
        # now and then makes of the same pictures.
        extra_options={"threads": 1, "x264-params": "asm=0"},
    )
    audio = encoder.add_audio(sample_rate=SAMPLING_RATE, num_channels=1, bit_rate=64_000)
    file = io.BytesIO()
    with encoder.open_file_like(file, format="mp4"):
        video.add_frames(torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous())
        audio.add_samples(torch.from_numpy(waveform)[None])
    return file.getvalue()


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: under a temporary name in the same folder first, then renamed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_encoders() -> None:
    """Try the encoders on a black, silent moment.

    Raises:
        RuntimeError: If torchcodec cannot be loaded, or FFmpeg lacks one of the encoders. Names which, and the way out.
    """
    try:
        import torch
        from torchcodec.encoders import AudioEncoder, VideoEncoder
    except (ImportError, RuntimeError, OSError) as error:
        raise RuntimeError(
            f"Generating mp4 files needs torchcodec with FFmpeg's shared libraries, which did not load ({error}). "
            "Install both: `pip install torchcodec`, and FFmpeg (Debian and Ubuntu: `apt-get install ffmpeg`, "
            "macOS: `brew install ffmpeg`)."
        ) from error

    black = torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device="cpu")
    try:
        VideoEncoder(black, frame_rate=FRAME_RATE).to_file_like(io.BytesIO(), format="mp4", codec=VIDEO_ENCODER)
    except RuntimeError as error:
        raise RuntimeError(f"FFmpeg here has no encoder {VIDEO_ENCODER!r} (H.264). {_WAY_OUT}") from error
    silence = torch.zeros(1, SAMPLING_RATE // 10, device="cpu")
    try:
        AudioEncoder(silence, sample_rate=SAMPLING_RATE).to_file_like(io.BytesIO(), format="mp4")
    except RuntimeError as error:
        raise RuntimeError(f"FFmpeg here has no encoder {AUDIO_ENCODER!r} (AAC). {_WAY_OUT}") from error
