"""`foal-hf annotate`: whole archives, as a table of results and a table of files."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    command = add(annotate)
    command.add_argument("sources", metavar="DIR_OR_LIST", help="a folder, or a text, CSV or TSV file that lists files")
    command.add_argument("--output", default="results.parquet", help="Parquet file of the results (%(default)s)")
    command.add_argument("--model", help="folder or Hub name of a checkpoint; the tiny one that ships by default")
    command.add_argument(
        "--modality", choices=("both", "audio", "video", "auto"), default="both", help="what to look at (%(default)s)"
    )
    command.add_argument("--window-seconds", type=float, help="annotate all of every file, window by window")
    command.add_argument("--stride-seconds", type=float, help="from one window to the next; half a window by default")
    command.add_argument("--min-score", type=float, help="from 0 to 1; below it there is no label")
    command.add_argument("--batch-size", type=int, default=8, help="clips or windows per pass (%(default)s)")
    command.add_argument("--num-workers", type=int, help="processes that decode; one a processor but one by default")
    command.add_argument(
        "--time-limit-seconds", type=float, default=60.0, help="longest that reading a clip may take (%(default)s)"
    )
    command.add_argument("--retry-failed", action="store_true", help="try files again that have failed before")
    command.add_argument("--all-files", action="store_true", help="try every file of a folder, whatever its name")
    command.add_argument("--root", help="folder that names of files start at; DIR, or the list's, by default")
    command.add_argument("--engine", choices=("local", "ray"), default="local", help="(%(default)s)")
    command.add_argument("--num-actors", type=int, help="copies of the model on Ray; what the cluster has room for")
    command.add_argument("--device", help="cpu, cuda, mps; what is there by default")


def annotate(options: argparse.Namespace) -> int:
    """Name the emotion in every file of an archive; killed and started again, it goes on."""
    from ..annotate import annotate as annotate_archive

    settings = {name: value for name, value in vars(options).items() if name not in ("run", "json")}
    summary = annotate_archive(**settings)
    if options.json:
        print(json.dumps(asdict(summary), default=str, indent=2))
        return 0
    numbers = f"{summary.num_done} done, {summary.num_failed} failed, {summary.num_pending} pending"
    print(f"{summary.num_files} files: {numbers}; {summary.num_annotated} of them in this run")
    print(f"results   {summary.results}\nfiles     {summary.manifest}")
    if summary.num_failed:
        print("--retry-failed tries the failed ones again; the list of files says why they failed", file=sys.stderr)
    return 0
