"""Options that several commands share: the corpus, and NAME=VALUE. And errors of the library in terms of options."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from ..printable_text import printable


CORPUS_HELP = "iemocap, crema_d, ravdess, or folder for one of your own"


def add_corpus_options(command: argparse.ArgumentParser, *, settings: str) -> None:
    """Declare the options of a corpus; [`corpus_options`] reads them.

    Args:
        command (`argparse.ArgumentParser`): Parser of one command.
        settings (`str`): Name of the option that sets any other option of the corpus, such as `"--set"`.
    """
    command.add_argument("--data-dir", help="folder of your copy")
    command.add_argument(
        "--download", action="store_true", help="download the corpus, if its script can, and resume that"
    )
    command.add_argument("--config", help="configuration of the corpus")
    command.add_argument("--on-error", choices=("raise", "skip"), help="what to do if a file cannot be read")
    command.add_argument("--allow-partial", action="store_true", help="accept a copy with missing files")
    command.add_argument("--cache-dir", help="folder for the table of rows")
    command.add_argument(
        settings,
        dest="corpus_settings",
        action="append",
        type=name_and_value,
        default=[],
        metavar="NAME=VALUE",
        help=f"another option of the corpus, its value as JSON: {settings} seed=1",
    )
    command.set_defaults(corpus_settings_flag=settings)


def add_limits(command: argparse.ArgumentParser) -> None:
    """Declare the limits of decoding: time, and the size of frames."""
    command.add_argument(
        "--time-limit-seconds",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="time limit for decoding a clip or window (%(default)s)",
    )
    command.add_argument(
        "--file-time-limit-seconds",
        type=float,
        metavar="SECONDS",
        help="time limit for decoding a file (default: 60 times that of a window)",
    )
    command.add_argument(
        "--max-pixels", type=int, metavar="N", help="largest frame, in pixels (default: 67108864, twice what 8K has)"
    )


def add_faces(command: argparse.ArgumentParser) -> None:
    """Declare whether faces are looked for."""
    command.add_argument(
        "--faces",
        choices=("auto", "off"),
        default="auto",
        help="off: the whole frame, also for a checkpoint that was trained on faces (%(default)s)",
    )


def add_face_boxes(command: argparse.ArgumentParser) -> None:
    """Declare that clips of a corpus are cropped to faces; [`with_face_boxes`] does it."""
    command.add_argument(
        "--faces", action="store_true", help='crop clips to their main face (needs pip install "foal-hf[faces]")'
    )


def with_face_boxes(corpus: Any, options: argparse.Namespace, margin: float) -> tuple[Any, Any]:
    """The corpus with the crop boxes of faces, which are found once and kept in the cache, and the report."""
    from ..faces.corpus import with_face_boxes as with_boxes

    store = None if options.cache_dir is None else Path(options.cache_dir) / "foal_hf_faces"
    on_error, progress = options.on_error or "raise", not options.quiet
    corpus, report = with_boxes(corpus, store, margin=margin, on_error=on_error, progress=progress)
    for line in report.render().splitlines():
        print(printable(line), file=sys.stderr)
    return corpus, report


def corpus_options(options: argparse.Namespace) -> dict[str, Any]:
    """The given options of `load_corpus`."""
    given: dict[str, Any] = {"config": options.config, "cache_dir": options.cache_dir, "on_error": options.on_error}
    given |= {name: True for name in ("allow_partial", "download") if getattr(options, name)}
    return {name: value for name, value in given.items() if value is not None} | dict(options.corpus_settings)


def as_options(message: str, options: argparse.Namespace) -> str:
    """A message with `--by speaker` in place of the Python argument `by="speaker"`, and `--output` of `output`.

    Args:
        message (`str`): Of an error or a warning of the library.
        options (`argparse.Namespace`): Of the command; its parser tells which arguments are options.
    """
    flags = re.findall(r"--[a-z-]+", options.command.format_usage())

    def option(match: re.Match[str]) -> str:
        name, value = match["named"] or match["set"], (match["value"] or "").strip("\"'")
        flag = f"--{name.replace('_', '-')}"
        if flag in flags:
            return flag if match["named"] or value == "True" else f"{flag} {value}"
        if match["set"] and hasattr(options, "corpus_settings_flag"):
            return f"{options.corpus_settings_flag} {name}={'true' if value == 'True' else value}"
        return match[0]

    return re.sub(r"""`(?P<named>[a-z_]+)=?`|\b(?P<set>[a-z_]+)=(?P<value>True|\.\.\.|"\w+"|'\w+')""", option, message)


def name_and_value(text: str) -> tuple[str, Any]:
    """`seed=1` as a name and its value, read as JSON if possible, else as text."""
    name, value = pair(text)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def pair(text: str) -> tuple[str, str]:
    """`a=b` as two words."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value
