"""`foal-hf annotate`: whole archives to a table of results and a manifest of files."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .options import add_faces, add_limits
from .terminal import raise_on_interrupt


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    command = add(annotate)
    command.set_defaults(uses_workers=True)
    command.add_argument("sources", metavar="DIR_OR_LIST", help="a folder, or a text, CSV or TSV list of files")
    command.add_argument("--output", default="results.parquet", help="Parquet file of the results (%(default)s)")
    command.add_argument("--model", help="folder or Hub name of a checkpoint (default: foal-net-small)")
    command.add_argument(
        "--modality", choices=("both", "audio", "video", "auto"), default="both", help="modalities to use (%(default)s)"
    )
    command.add_argument("--window-seconds", type=float, help="predict window by window (default: one row a file)")
    command.add_argument("--stride-seconds", type=float, help="from one window to the next (default: half a window)")
    command.add_argument("--first-seconds", type=float, help="use only this much of each file (default: all of it)")
    command.add_argument("--min-score", type=float, help="from 0 to 1; below it there is no label")
    command.add_argument("--batch-size", type=int, default=8, help="clips or windows per forward pass (%(default)s)")
    command.add_argument(
        "--num-workers", type=int, help="decoding processes (default: processors minus one, at most 8)"
    )
    add_faces(command)
    add_limits(command)
    command.add_argument("--retry-failed", action="store_true", help="retry files that failed in earlier runs")
    command.add_argument("--all-files", action="store_true", help="try every file of a folder, whatever its suffix")
    command.add_argument(
        "--root", help="folder that file names are relative to (default: DIR, or the folder of the list)"
    )
    command.add_argument("--engine", choices=("local", "ray"), default="local", help="(%(default)s)")
    command.add_argument(
        "--num-actors", type=int, help="copies of the model on Ray (default: as many as the cluster allows)"
    )
    command.add_argument("--device", help="cpu, cuda or mps (default: the best that is available)")


def annotate(options: argparse.Namespace) -> int:
    """Predict the emotion in every file of an archive; a killed run resumes when started again.

    Exits with 1 if any file has failed.
    """
    from ..annotate import annotate as annotate_archive

    raise_on_interrupt()
    others = ("run", "command", "uses_workers", "json", "quiet")
    settings = {name: value for name, value in vars(options).items() if name not in others}
    summary = annotate_archive(**settings, progress=not options.quiet)
    code = 1 if summary.num_failed or summary.num_pending else 0
    if options.json:
        print(json.dumps(asdict(summary), default=str, indent=2))
        return code
    numbers = f"{summary.num_done} done, {summary.num_failed} failed, {summary.num_pending} pending"
    print(f"{summary.num_files} files: {numbers}; {summary.num_annotated} of them in this run")
    print(f"results   {summary.results}\nfiles     {summary.manifest}")
    if summary.skipped and not options.quiet:
        reasons = ", ".join(f"{number} {reason}" for reason, number in summary.skipped.items())
        print(f"Skipped in the folder: {reasons} (--all-files tries every file)", file=sys.stderr)
    if summary.num_failed:
        print("The manifest has the error of each failed file; --retry-failed retries them", file=sys.stderr)
    return code
