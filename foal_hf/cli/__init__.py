"""The command `foal-hf`: parses the arguments and runs one of the commands in the files of this folder."""

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from ..printable_text import printable
from ..worker_server import prepare_workers, stop_server
from . import annotate, corpora, demo, experiments, export, hub, predict, project
from .options import as_options
from .terminal import raise_on_interrupt, terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments (`Sequence[str]`, *optional*): Without the program's name. Default: those of the process.

    Returns:
        `int`: The exit code: 0 for success, 1 for an error (also of one of many files), 2 for misuse, 130 for Ctrl-C.
    """
    options = _parse(arguments)
    try:
        if options.uses_workers:
            prepare_workers()  # they import torch while this process does
        with terminal(lambda message: as_options(message, options), quiet=options.quiet):
            if options.run is not project.doctor:  # which has to work in a broken installation
                from ..registration import register

                register()
            if not options.uses_workers:  # those commands have more to import
                raise_on_interrupt()
            code = options.run(options)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        if options.uses_workers:
            stop_server()  # it would keep the output open while it imports
        return _failed("interrupted", 130)
    except BrokenPipeError:  # the reader of the output has ended, as `head` does
        _discard_output()
        return 141
    except (OSError, ValueError, RuntimeError, ImportError, subprocess.SubprocessError) as error:
        return _failed(as_options(str(error), options), 1)


def _failed(message: str, code: int) -> int:
    print(f"foal-hf: {printable(message)}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    return code


def _discard_output() -> None:
    """Keep Python from failing again when it writes the rest of the output at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, extra = parser.parse_known_args(arguments)
    if extra and not any(word.startswith("-") for word in extra) and hasattr(options, "files"):
        options.files += extra  # files after an option
    elif extra:
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    return options


def _version() -> str:
    return importlib.import_module(__name__.partition(".")[0]).__version__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="foal-hf", description="Recognise the emotion of a speaking person from audio and video."
    )
    parser.add_argument("--version", action="version", version=f"foal-hf {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(run: Any) -> argparse.ArgumentParser:
        command = commands.add_parser(run.__name__.replace("_", "-"), help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run, command=command, uses_workers=False)
        command.add_argument("--json", action="store_true", help="print JSON")
        command.add_argument("--quiet", action="store_true", help="print no progress and no warnings")
        return command

    for part in (project, predict, demo, annotate, corpora, experiments, hub, export):
        part.add_commands(add)
    return parser
