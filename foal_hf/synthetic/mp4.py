"""Writes one waveform and its frames as an mp4 file: H.264 and AAC, through torchcodec and FFmpeg."""

import io

import numpy as np

from ..corpora.mp4_encoders import VIDEO_ENCODER
from .face import FRAME_RATE
from .voice import SAMPLING_RATE


def encode_mp4(waveform: np.ndarray, frames: np.ndarray) -> bytes:
    """Encode one clip as the bytes of an mp4 file.

    Args:
        waveform (`np.ndarray` of shape `(num_samples,)`): float32 in [-1, 1], at 16 kHz.
        frames (`np.ndarray` of shape `(num_frames, height, width, 3)`): uint8 RGB, 25 per second.

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
        # The bytes must depend on the frames alone: not on the number of cores, and not on x264's vector code (asm),
        # which does not always encode the same frames to the same bytes.
        extra_options={"threads": 1, "x264-params": "asm=0"},
    )
    audio = encoder.add_audio(sample_rate=SAMPLING_RATE, num_channels=1, bit_rate=64_000)
    file = io.BytesIO()
    with encoder.open_file_like(file, format="mp4"):
        video.add_frames(torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous())
        audio.add_samples(torch.from_numpy(waveform)[None])
    return file.getvalue()
