"""`foal-hf predict`: emotions of clips, or over the time of recordings, as text, JSON, tables, subtitles or a plot."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..printable_text import printable
from .options import add_faces, add_limits
from .terminal import raise_on_interrupt


_FORMATS = ("csv", "vtt", "srt", "rttm")


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    command = add(predict)
    command.set_defaults(uses_workers=True)
    command.add_argument("files", nargs="+", metavar="FILE", help="a clip or recording: a path or an http(s) URL")
    command.add_argument("--model", help="folder or Hub name of a checkpoint (default: foal-net-small)")
    command.add_argument(
        "--modality", choices=("both", "audio", "video", "auto"), default="both", help="modalities to use (%(default)s)"
    )
    command.add_argument("--top-k", type=int, help="print only the K most likely emotions")
    command.add_argument("--min-score", type=float, help="from 0 to 1; below it there is no label")
    command.add_argument("--batch-size", type=int, default=8, help="clips or windows per forward pass (%(default)s)")
    command.add_argument("--device", help="cpu, cuda or mps (default: the best that is available)")
    command.add_argument("--window-seconds", type=float, help="predict window by window (6 for the formats below)")
    command.add_argument("--stride-seconds", type=float, help="from one window to the next (default: half a window)")
    command.add_argument("--first-seconds", type=float, help="use only this much of each file (default: all of it)")
    add_faces(command)
    add_limits(command)
    command.add_argument("--csv", action="store_true", help="print a CSV table, one row for each stride")
    command.add_argument("--vtt", action="store_true", help="print WebVTT subtitles, one cue for each run of a label")
    command.add_argument("--srt", action="store_true", help="print SubRip subtitles, one cue for each run of a label")
    command.add_argument("--rttm", action="store_true", help="print RTTM, one line for each run of a label")
    command.add_argument("--plot", metavar="FILE", help="plot the timeline to a .png, .pdf or .svg file")


def predict(options: argparse.Namespace) -> int:
    """Predict the emotion in clips, or over the time of recordings."""
    misuse = _misuse(options)
    if misuse:
        print(f"foal-hf: {printable(misuse)}", file=sys.stderr)
        return 2
    from ..annotate.isolated import IsolatedPipeline
    from ..annotate.workers import TimeLimits
    from ..foal_net.timeline_foal_net import NO_LABEL, is_regression
    from ..registration import load_pipeline

    raise_on_interrupt()
    settings = {
        "modality": options.modality,
        "top_k": options.top_k,
        "min_score": options.min_score,
        "batch_size": options.batch_size,
        "first_seconds": options.first_seconds,
        "max_pixels": options.max_pixels,
        "faces": options.faces,
        "on_error": "skip",
    }
    with load_pipeline(options.model, options.device, pipeline_class=IsolatedPipeline) as classify:
        if is_regression(classify.model.config) and (options.vtt or options.srt or options.rttm or options.plot):
            print(f"foal-hf: --vtt, --srt, --rttm and --plot show labels; {NO_LABEL}; give --csv", file=sys.stderr)
            return 2
        classify.limits = TimeLimits(options.time_limit_seconds, options.file_time_limit_seconds)
        entries = (_predict_timelines if _is_timeline(options) else _predict_clips)(classify, options, settings)
    for entry in entries:
        if "error" in entry and not options.json:
            print(printable(_one_line(entry)), file=sys.stderr)
        for note in [] if options.json else entry.get("notes", []):
            print(printable(f"{entry['file']}: {note}"), file=sys.stderr)
    labels = list(classify.model.config.label2id)
    _print_predictions(entries, labels, options)
    if options.plot and entries[0].get("segments"):
        from ..plots import plot_timeline

        plot = plot_timeline(entries[0]["segments"], options.plot, labels=labels)
        print(f"Plot written to {printable(str(plot))}", file=sys.stderr)
    return 1 if any("error" in entry for entry in entries) else 0


def _misuse(options: argparse.Namespace) -> str | None:
    formats = [f"--{name}" for name in ("json", *_FORMATS) if getattr(options, name)]
    if len(formats) > 1:
        return f"{' and '.join(formats)} cannot be printed at the same time; give one of them"
    if (options.vtt or options.srt or options.plot) and len(options.files) > 1:
        return "--vtt, --srt and --plot take one recording; give one FILE"
    last = options.files[-1]
    if formats and len(options.files) > 1 and not os.path.exists(last) and "://" not in last:
        return f"{last} does not exist. To write {formats[0]} to a file: foal-hf predict FILE {formats[0]} > {last}"
    return None


def _is_timeline(options: argparse.Namespace) -> bool:
    names = (*_FORMATS, "plot", "window_seconds", "stride_seconds")
    return any(getattr(options, name) not in (None, False) for name in names)


def _predict_clips(classify: Any, options: argparse.Namespace, settings: dict[str, Any]) -> list[dict[str, Any]]:
    from tqdm.auto import tqdm

    predictions = classify((file for file in options.files), return_embeddings=True, **settings)
    entries = []
    for file, prediction in zip(options.files, tqdm(predictions, total=len(options.files), unit="clip"), strict=True):
        if "error" not in prediction:
            prediction = {
                name: prediction[name] for name in ("start_seconds", "end_seconds", "modalities", "scores", "notes")
            }
        entries.append({"file": file, **prediction})
    return entries


def _predict_timelines(classify: Any, options: argparse.Namespace, settings: dict[str, Any]) -> list[dict[str, Any]]:
    window_seconds = 6.0 if options.window_seconds is None else options.window_seconds
    windows = {"window_seconds": window_seconds, "stride_seconds": options.stride_seconds, "progress": True}
    predictions = classify((file for file in options.files), **windows, **settings)
    return [
        {"file": file, **(prediction if isinstance(prediction, dict) else {"segments": prediction})}
        for file, prediction in zip(options.files, predictions, strict=True)
    ]


def _print_predictions(entries: list[dict[str, Any]], labels: list[str], options: argparse.Namespace) -> None:
    from ..foal_net.timeline_foal_net import NO_LABEL, runs_of_one_label
    from ..plots import subtitles_and_tables as formats

    if options.json:
        print(json.dumps([{**entry, "file": printable(entry["file"])} for entry in entries], indent=2))
        return
    has_faces = any(formats.tells_of_faces(entry.get("segments", [])) for entry in entries)
    for number, entry in enumerate(entries):
        segments = entry.get("segments", [])
        if options.csv:
            table = formats.to_csv(segments, labels, file=entry["file"], header=number == 0, has_faces=has_faces)
            print(table, end="")
        elif options.vtt:
            print(formats.to_vtt(segments), end="")
        elif options.srt:
            print(formats.to_srt(segments), end="")
        elif options.rttm:
            print(formats.to_rttm(segments, Path(entry["file"]).stem), end="")
        elif "segments" in entry:
            has_numbers = any(segment["reason"] == NO_LABEL for segment in segments)
            for run in segments if has_numbers else runs_of_one_label(segments):
                times = f"{run['start_seconds']:9.2f} {run['end_seconds']:9.2f}"
                shown = _numbers(run["scores"]) if has_numbers else f"{run['label'] or '-'} {run['score']:.2f}"
                print(printable(f"{entry['file']}: {times}  {shown}"))
        elif "error" not in entry:
            print(printable(_one_line(entry)))


def _one_line(entry: dict[str, Any]) -> str:
    if "error" in entry:
        return f"error: {entry['error']}"
    first, *others = entry["scores"]
    if first["label"] is None:
        first = {**first, "label": "-"}
    scores = _numbers([first, *others])
    used = " and ".join(entry["modalities"]) or first["reason"]
    return f"{entry['file']}: {scores}  ({used}, {entry['start_seconds']:g} to {entry['end_seconds']:.2f} s)"


def _numbers(scores: list[dict[str, Any]]) -> str:
    return "  ".join(f"{score['label']} {score['score']:.2f}" for score in scores)
