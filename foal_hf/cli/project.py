"""`foal-hf quickstart` and `foal-hf doctor`: try the package, and find out why it does not work."""

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the commands and their options."""
    command = add(quickstart)
    command.add_argument("--output", default="outputs/quickstart", help="output folder (%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="random seed of clips, weights and batches (%(default)s)")

    add(doctor)


def quickstart(options: argparse.Namespace) -> int:
    """Generate clips, train a tiny Foal-Net on them, test it on unseen speakers, save and load it."""
    from ..experiments.quickstart import render_table, run_quickstart

    with contextlib.redirect_stdout(sys.stderr):  # Trainer prints its log; standard output is for the result
        result = run_quickstart(options.output, seed=options.seed)
    if options.json:
        print((Path(options.output) / "results.json").read_text(encoding="utf-8"), end="")
        return 0
    num_test = result.num_clips["test"]
    print(
        f"\nTrained on generated clips in {result.train_seconds:.0f} s. Test on speakers that were not in training:\n"
    )
    print(render_table(result))
    print(f"\nA new process predicted the same label for {result.predictions_agree} of {num_test} test files.\n")
    for name in ("checkpoint", "confusion_matrix", "timeline"):
        print(f"{name:<17} {getattr(result, name)}")
    print(
        f"\nNext: foal-hf predict --model {result.checkpoint} YOUR_CLIP.mp4   (its labels mean nothing for real people)"
    )
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Check FFmpeg, torchcodec, torchvision and CUDA, and name the command that fixes what is missing."""
    from .doctor import main as diagnose

    return diagnose(json=options.json)
