"""A folder corpus of feature files, as laboratories keep them: one array for each side of each clip, and a table."""

import csv
from pathlib import Path

import numpy as np


AUDIO_WIDTH, VIDEO_WIDTH = 28, 20
EMOTIONS = ("happy", "sad")


def make_feature_folder(folder: Path, num_speakers: int = 6, clips_of_each: int = 4) -> Path:
    """Clips of a few speakers whose emotion shows in the mean of their features."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(5)
    means = {emotion: random.normal(size=AUDIO_WIDTH) for emotion in EMOTIONS}
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["audio_features_file", "video_features_file", "emotion", "speaker"])
        for speaker in range(num_speakers):
            for clip in range(clips_of_each):
                emotion, name = EMOTIONS[clip % 2], f"s{speaker}-{clip}"
                for side, width, positions in (("audio", AUDIO_WIDTH, 5 + clip), ("video", VIDEO_WIDTH, 3 + speaker)):
                    noise = random.normal(size=(positions, width), scale=0.3)
                    np.save(folder / f"{name}-{side}.npy", (means[emotion][:width] + noise).astype(np.float32))
                writer.writerow([f"{name}-audio.npy", f"{name}-video.npy", emotion, f"s{speaker}"])
    return folder
