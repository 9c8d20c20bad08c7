"""What writing mp4 files takes: FFmpeg's encoders for H.264 and AAC, and threads."""

import io
import os


VIDEO_ENCODER = "libx264"
AUDIO_ENCODER = "aac"

_HOW_TO_INSTALL = (
    "Install an FFmpeg that has it (Debian and Ubuntu: `apt-get install ffmpeg`, macOS: `brew install ffmpeg`); "
    "`ffmpeg -encoders` lists the encoders."
)


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_encoders() -> None:
    """Try the encoders on a few black frames and on silence.

    Raises:
        RuntimeError: If torchcodec cannot be loaded, or FFmpeg lacks an encoder; the message says how to fix it.
    """
    try:
        import torch
        from torchcodec.encoders import AudioEncoder, VideoEncoder
    except (ImportError, RuntimeError, OSError) as error:
        raise RuntimeError(
            f"Writing mp4 files needs torchcodec with FFmpeg's shared libraries, which did not load ({error}). "
            "Install both: `pip install torchcodec`, and FFmpeg (Debian and Ubuntu: `apt-get install ffmpeg`, "
            "macOS: `brew install ffmpeg`)."
        ) from error

    black = torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device="cpu")
    try:
        VideoEncoder(black, frame_rate=25).to_file_like(io.BytesIO(), format="mp4", codec=VIDEO_ENCODER)
    except RuntimeError as error:
        raise RuntimeError(f"This FFmpeg has no encoder {VIDEO_ENCODER!r} (H.264). {_HOW_TO_INSTALL}") from error
    silence = torch.zeros(1, 1600, device="cpu")
    try:
        AudioEncoder(silence, sample_rate=16_000).to_file_like(io.BytesIO(), format="mp4")
    except RuntimeError as error:
        raise RuntimeError(f"This FFmpeg has no encoder {AUDIO_ENCODER!r} (AAC). {_HOW_TO_INSTALL}") from error
