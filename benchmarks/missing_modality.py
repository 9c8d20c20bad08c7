"""Accuracy with a modality removed, silent or black: `python benchmarks/missing_modality.py`.

The checkpoint that ships, trained with `modality_dropout` 0.5, on generated clips of speakers that it has not seen. In
these the voice shows arousal and the face valence, so either alone leaves two of the four emotions open: 50 % is what
an honest answer from one of them comes to, 25 % is chance.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from harness import arguments, save
from transformers import pipeline

from foal_hf.registration import TASK, TINY_CHECKPOINT
from foal_hf.synthetic import EMOTIONS, synthesize_clip


SPEAKERS = range(18, 24)  # those that the quickstart tests on
RATE, FRAME_RATE, FRAMES_PER_SECOND = 16_000, 25, 5


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        short={"clips": 1},
        clips={"type": int, "default": 6, "help": "of each speaker in each emotion (%(default)s)"},
    )
    classify = pipeline(TASK, model=str(TINY_CHECKPOINT), device=options.device, batch_size=16)
    clips = [
        (emotion, *synthesize_clip(emotion, speaker=speaker, clip=clip))
        for emotion in EMOTIONS
        for speaker in SPEAKERS
        for clip in range(options.clips)
    ]
    rows = []
    for name, (sound, picture) in {
        "sound and picture": ("kept", "kept"),
        "sound removed": ("removed", "kept"),
        "picture removed": ("kept", "removed"),
        "sound silent": ("empty", "kept"),
        "picture black": ("kept", "empty"),
    }.items():
        inputs = [row(waveform, frames, sound, picture) for _, waveform, frames in clips]
        rows.append([name, *(accuracy(classify(inputs, modality=modality), clips) for modality in ("both", "auto"))])
    save(
        "missing_modality",
        f"Accuracy on {len(clips)} generated clips of {len(SPEAKERS)} speakers that it has not seen",
        {"clip": "", 'modality="both"': "%", 'modality="auto"': "%"},
        rows,
        [
            "The checkpoint that ships, trained with `modality_dropout`. In these clips the voice shows arousal and the "
            "face valence, so half is what an honest answer from one of them comes to, and a quarter is chance."
        ],
        options=options,
    )


def row(waveform: np.ndarray, frames: np.ndarray, sound: str, picture: str) -> dict[str, Any]:
    pictures = torch.from_numpy(frames)[:: FRAME_RATE // FRAMES_PER_SECOND]
    heard, seen = torch.from_numpy(waveform), pictures
    if sound != "kept":
        heard = None if sound == "removed" else torch.zeros_like(heard)
    if picture != "kept":
        seen = None if picture == "removed" else torch.zeros_like(seen)
    return {"audio": heard, "video": seen, "sampling_rate": RATE}


def accuracy(answers: list[Any], clips: list[Any]) -> float:
    return float(np.mean([answer[0]["label"] == clip[0] for answer, clip in zip(answers, clips, strict=True)]))


if __name__ == "__main__":
    main()
