"""How long it takes until something happens: `python benchmarks/startup.py`.

Every way is a fresh process, and they take turns: importing the package, importing the classes of transformers that it
builds on and nothing else, the help of the command line, and a first answer for a generated recording by the tiny
checkpoint that ships.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness import Timing, arguments, compare, save, target

from foal_hf.synthetic import EMOTIONS, generate_recording


# What the modules that `import foal_hf` loads take from transformers, at least.
CLASSES = (
    "from transformers import AutoModel, AutoModelForVideoClassification, AutoProcessor, PreTrainedModel, Pipeline\n"
    "from transformers import CLIPVisionModelWithProjection, WavLMModel\n"
    "from transformers.processing_utils import ProcessorMixin\n"
    "from transformers.video_processing_utils import BaseVideoProcessor\n"
)
ANSWERS = (", and a first answer", ", and two answers")
PREDICTION = (
    "import foal_hf\nfrom transformers import pipeline\n"
    "classify = pipeline('audio-video-emotion', model=str(foal_hf.TINY_CHECKPOINT), device='cpu')\n"
)


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(__doc__, argv, short={"rounds": 1})
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        generate_recording(clip, [EMOTIONS[0]], speaker=0, seconds_each=3)
        ways = {
            "`import torch`": "import torch",
            "the classes of transformers": CLASSES,
            "`import foal_hf`": "import foal_hf",
            "a pipeline, made": PREDICTION,
            f"a pipeline, made{ANSWERS[0]}": f"{PREDICTION}classify({str(clip)!r})",
            f"a pipeline, made{ANSWERS[1]}": f"{PREDICTION}classify({str(clip)!r})\nclassify({str(clip)!r})",
        }
        commands = {name: [sys.executable, "-c", code] for name, code in ways.items()}
        commands["`foal-hf --help`"] = [*command_line(), "--help"]
        times = compare(
            {name: lambda command=command: run(command) for name, command in commands.items()}, options.rounds
        )
    report(options, times)


def command_line() -> list[str]:
    """`foal-hf` of this environment, which is not always on the path."""
    script = Path(sys.executable).with_name("foal-hf")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "foal_hf"]


def run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def report(options: argparse.Namespace, times: dict[str, Timing]) -> None:
    classes, own = times["the classes of transformers"].median, times["`import foal_hf`"].median
    shortest = times["`import torch`"].median
    made, first, second = (times[f"a pipeline, made{answers}"].median for answers in ("", *ANSWERS))
    save(
        "startup",
        "From a fresh process on",
        {"process": "", "time": "s", "to the classes of transformers": "x"},
        [[name, timing, timing.median / classes] for name, timing in times.items()],
        [
            f"Of the {own:.2f} s that the package takes to import, {shortest / own:.0%} are torch and "
            f"{(classes - shortest) / own:.0%} the classes of transformers. It loads no other package, and its own "
            "modules that a session needs only later (training, corpora, plots) are imported when they are asked for. "
            "The help does not import torch at all.",
            f"A first answer comes {first - made:.2f} s after the pipeline is there, a second {second - first:.2f} s "
            "after the first (differences of medians).",
        ],
        options=options,
        targets=[
            target("`import foal_hf`, to the classes of transformers", own / classes, at_most=1.15),
            target("`foal-hf --help`", times["`foal-hf --help`"].median, at_most=0.4, unit="s"),
        ],
    )


if __name__ == "__main__":
    main()
