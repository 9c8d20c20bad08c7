"""Peak memory and time of a timeline over 2 minutes and over 2 hours: `python benchmarks/timeline_memory.py`.

The long recording is the short one sixty times over, so that every window holds something. Each is judged in a process
of its own by the checkpoint that ships, from its file to its segments, which are counted and let go.

What grows with the length is FFmpeg's own index of the file, which every decoder keeps: in an MP4 some 24 bytes for
every picture and packet of sound. The defaults are those of a common film, beside a checkpoint so small that it shows.
"""

import argparse
import subprocess
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import arguments, in_a_process, save, target
from transformers import pipeline

from foal_hf.registration import TASK, TINY_CHECKPOINT


SHORT_SECONDS = 120
LIMIT = 1.10


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        short={"times": 3},
        times={"type": int, "default": 60, "help": "how often the short recording is in the long one (%(default)s)"},
        frames_per_second={"type": int, "default": 30, "help": "of the recordings (%(default)s)"},
        sampling_rate={"type": int, "default": 44_100, "help": "of their sound, Hz (%(default)s)"},
        window_seconds={"type": float, "default": 6.0, "help": "(%(default)s)"},
        stride_seconds={"type": float, "default": 6.0, "help": "(%(default)s)"},
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        make_short(short, options)
        make_long(short, long, options.times)
        for file, minutes in ((short, SHORT_SECONDS / 60), (long, SHORT_SECONDS * options.times / 60)):
            measured, memory = in_a_process(judge, str(file), options.window_seconds, options.stride_seconds)
            rows.append([f"{minutes:.0f} minutes", measured["segments"], measured["seconds"], memory])
    ratio = rows[1][3] / rows[0][3]
    save(
        "timeline_memory",
        f"A timeline of {options.frames_per_second} pictures a second and sound of {options.sampling_rate} Hz",
        {"recording": "", "segments": "", "time": "s", "peak memory": "B"},
        rows,
        ["Windows one after the other, by the checkpoint that ships. What grows is FFmpeg's own index of the file."],
        options=options,
        targets=[target("memory of the long one to the short one", ratio, at_most=LIMIT)],
    )


def make_short(path: Path, options: argparse.Namespace) -> None:
    """Two minutes of a moving test picture and a tone in noise."""
    picture = f"testsrc=s=96x72:r={options.frames_per_second}:d={SHORT_SECONDS}"
    sound = f"aevalsrc=0.3*sin(2*PI*220*t)+0.05*random(0):s={options.sampling_rate}:d={SHORT_SECONDS}"
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "250", "-c:a", "aac", "-b:a", "32k", "-shortest"]
    run_ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *codecs, path)


def make_long(short: Path, path: Path, times: int) -> None:
    """The short one over and over, without encoding it again."""
    run_ffmpeg("-stream_loop", times - 1, "-i", short, "-c", "copy", path)


def run_ffmpeg(*arguments: object) -> None:
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def judge(file: str, window_seconds: float, stride_seconds: float) -> dict[str, float]:
    """What one recording takes, from its file to its segments."""
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    classify: Any = pipeline(TASK, model=str(TINY_CHECKPOINT), device="cpu")
    started = time.perf_counter()
    segments = classify(
        file,
        window_seconds=window_seconds,
        stride_seconds=stride_seconds,
        stream=True,
        batch_size=8,
        detect_speech=False,
    )
    return {"segments": sum(1 for _ in segments), "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main()
