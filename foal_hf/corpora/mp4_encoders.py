"""Whether FFmpeg can write mp4 files with H.264 and AAC; and writing a file whole or not at all."""

import io
import os
from pathlib import Path


VIDEO_ENCODER = "libx264"
AUDIO_ENCODER = "aac"

_WAY_OUT = (
    "Install an FFmpeg that has it (Debian and Ubuntu: `apt-get install ffmpeg`, macOS: `brew install ffmpeg`); "
    "`ffmpeg -encoders` lists what is there."
)


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
        VideoEncoder(black, frame_rate=25).to_file_like(io.BytesIO(), format="mp4", codec=VIDEO_ENCODER)
    except RuntimeError as error:
        raise RuntimeError(f"FFmpeg here has no encoder {VIDEO_ENCODER!r} (H.264). {_WAY_OUT}") from error
    silence = torch.zeros(1, 1600, device="cpu")
    try:
        AudioEncoder(silence, sample_rate=16_000).to_file_like(io.BytesIO(), format="mp4")
    except RuntimeError as error:
        raise RuntimeError(f"FFmpeg here has no encoder {AUDIO_ENCODER!r} (AAC). {_WAY_OUT}") from error
