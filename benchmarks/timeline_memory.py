"""Peak memory and time of a timeline over 2 minutes and over 2 hours: `python benchmarks/timeline_memory.py`.

The long recording is the short one sixty times over, so that every window holds something. Each is judged in a process
of its own by the checkpoint that ships, from its file to its segments, which are counted and let go. Ends with an error
where the long one takes more than 10 % more memory.

What grows with the length is FFmpeg's own index of the file, which every decoder keeps: in an MP4 some 24 bytes for
every picture and packet of sound. The defaults are those of a common film, beside a checkpoint so small that it shows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


SHORT_SECONDS, TIMES = 120, 60
LIMIT = 1.10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames-per-second", type=int, default=30, help="of the recordings (%(default)s)")
    parser.add_argument("--sampling-rate", type=int, default=44_100, help="of their sound, Hz (%(default)s)")
    parser.add_argument("--window-seconds", type=float, default=6.0, help="(%(default)s)")
    parser.add_argument("--stride-seconds", type=float, default=6.0, help="(%(default)s)")
    parser.add_argument("--judge", metavar="FILE", help=argparse.SUPPRESS)  # what the process of its own does
    options = parser.parse_args()
    if options.judge:
        print(json.dumps(judge(options)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        make_short(short, options)
        make_long(short, long)
        results = [measure(file) for file in (short, long)]
    print("| recording | segments | seconds | peak memory |")
    print("| --- | --- | --- | --- |")
    for seconds, result in zip((SHORT_SECONDS, SHORT_SECONDS * TIMES), results, strict=True):
        print(f"| {seconds // 60} min | {result['segments']} | {result['seconds']:.1f} | {result['peak_mb']:.0f} MB |")
    ratio = results[1]["peak_mb"] / results[0]["peak_mb"]
    print(f"\nThe long one takes {ratio:.3f} times the memory of the short one; at most {LIMIT} is expected.")
    return 0 if ratio <= LIMIT else 1


def make_short(path: Path, options: argparse.Namespace) -> None:
    """Two minutes of a moving test picture and a tone in noise."""
    picture = f"testsrc=s=96x72:r={options.frames_per_second}:d={SHORT_SECONDS}"
    sound = f"aevalsrc=0.3*sin(2*PI*220*t)+0.05*random(0):s={options.sampling_rate}:d={SHORT_SECONDS}"
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "250", "-c:a", "aac", "-b:a", "32k", "-shortest"]
    run_ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *codecs, path)


def make_long(short: Path, path: Path) -> None:
    """The short one over and over, without encoding it again."""
    run_ffmpeg("-stream_loop", TIMES - 1, "-i", short, "-c", "copy", path)


def run_ffmpeg(*arguments: object) -> None:
    command = ["ffmpeg", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def measure(file: Path) -> dict[str, float]:
    """What one recording takes, in a process with one thread."""
    command = [sys.executable, __file__, *sys.argv[1:], "--judge", str(file)]
    finished = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(finished.stdout)


def judge(options: argparse.Namespace) -> dict[str, float]:
    import resource
    import warnings

    from transformers import pipeline
    from transformers.utils import logging

    from foal_hf.registration import TASK

    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    classify = pipeline(TASK, device="cpu")
    started = time.perf_counter()
    segments = classify(
        options.judge,
        window_seconds=options.window_seconds,
        stride_seconds=options.stride_seconds,
        stream=True,
        batch_size=8,
        detect_speech=False,
    )
    count = sum(1 for _ in segments)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes; bytes on macOS
    return {"segments": count, "seconds": seconds, "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3)}


if __name__ == "__main__":
    raise SystemExit(main())
