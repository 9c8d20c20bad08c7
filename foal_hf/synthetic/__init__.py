"""The generated corpus: labelled audio-video clips of synthesised voices and drawn faces. No person is in it.

Its purpose is to run the whole software on real mp4 files without a download. Nothing measured on it says anything
about people. Imports point one way: voice, face -> drawing -> clips; clips, mp4 -> corpus.
"""

from .clips import EMOTIONS, synthesize_clip, synthesize_recording
from .corpus import GENERATOR_VERSION, PARTITIONS, STATEMENT, generate_corpus, generate_recording, read_metadata


__all__ = [
    "EMOTIONS",
    "GENERATOR_VERSION",
    "PARTITIONS",
    "STATEMENT",
    "generate_corpus",
    "generate_recording",
    "read_metadata",
    "synthesize_clip",
    "synthesize_recording",
]
