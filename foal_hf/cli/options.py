"""Options that several commands share: which corpus is meant, and NAME=VALUE."""

import argparse
import json
from typing import Any


CORPUS_HELP = "iemocap, crema_d, ravdess, or folder for one of your own"


def add_corpus_options(command: argparse.ArgumentParser, *, settings: str) -> None:
    """Declare what says which copy of a corpus is meant, and how it is read; [`corpus_options`] reads it.

    Args:
        command (`argparse.ArgumentParser`): Of one command.
        settings (`str`): The option that sets any other option of the corpus, such as `"--set"`.
    """
    command.add_argument("--data-dir", help="folder of your copy")
    command.add_argument("--config", help="which configuration of the corpus; its default by default")
    command.add_argument("--on-error", choices=("raise", "skip"), help="for files that cannot be read")
    command.add_argument("--allow-partial", action="store_true", help="take a copy that lacks something")
    command.add_argument("--cache-dir", help="where the table of rows is kept")
    command.add_argument(
        settings,
        dest="corpus_settings",
        action="append",
        type=name_and_value,
        default=[],
        metavar="NAME=VALUE",
        help=f"another option of the corpus, its value as JSON: {settings} seed=1",
    )


def corpus_options(options: argparse.Namespace) -> dict[str, Any]:
    """Options of `load_corpus` that were given."""
    given = {"config": options.config, "cache_dir": options.cache_dir, "on_error": options.on_error}
    if options.allow_partial:
        given["allow_partial"] = True
    return {name: value for name, value in given.items() if value is not None} | dict(options.corpus_settings)


def name_and_value(text: str) -> tuple[str, Any]:
    """`seed=1` as a name and the value that its JSON stands for, or the bare word."""
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
