"""`foal-hf demo`: a local web page to try a checkpoint on recordings."""

import argparse
import json
from collections.abc import Callable
from typing import Any


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    command = add(demo)
    command.add_argument(
        "checkpoint", nargs="?", metavar="CHECKPOINT", help="folder or Hub name (default: foal-net-small)"
    )
    command.add_argument("--device", help="cpu, cuda or mps (default: the best that is available)")
    command.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    command.add_argument(
        "--max-upload-mib", type=_mebibytes, default=1024, metavar="MIB", help="maximum size of an upload (%(default)s)"
    )
    command.add_argument("--open", action="store_true", help="open the page in the browser")


def demo(options: argparse.Namespace) -> int:
    """Serve a web page on this machine that predicts emotions in recordings; Ctrl-C stops it."""
    from ..demo import serve_demo

    size = options.max_upload_mib * 2**20
    with serve_demo(options.checkpoint, device=options.device, port=options.port, max_upload_bytes=size) as page:
        text = json.dumps({"url": page.url}) if options.json else f"The page is at {page.url} (Ctrl-C stops it)"
        print(text, flush=True)
        if options.open:
            import webbrowser

            webbrowser.open(page.url)
        page.wait_for_interrupt()
    return 0


def _mebibytes(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of MiB, at least 1, got {text!r}")
    return int(text)
