"""The command `foal-hf`: parses the arguments and runs one of the commands in the files of this folder."""

import argparse
import subprocess
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from . import annotate, corpora, demo, experiments, export, hub, predict, project
from .options import as_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments (`Sequence[str]`, *optional*): Without the program's name. Default: those of the process.

    Returns:
        `int`: The exit code: 0 for success, 1 for an error, 2 for misuse, 130 for Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    # transformers' WavLM passes a boolean padding mask beside a float position bias.
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    try:
        if options.run is not project.doctor:  # which has to work in a broken installation
            from ..registration import register

            register()
        return options.run(options)
    except KeyboardInterrupt:
        print("foal-hf: interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError, RuntimeError, ImportError, subprocess.SubprocessError) as error:
        print(f"foal-hf: {as_options(str(error), options)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="foal-hf", description="Recognise the emotion of a speaking person from audio and video."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(run: Any) -> argparse.ArgumentParser:
        command = commands.add_parser(run.__name__.replace("_", "-"), help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print JSON")
        return command

    for part in (project, predict, demo, annotate, corpora, experiments, hub, export):
        part.add_commands(add)
    return parser
