"""The program `foal-hf`. With this module loaded, `foal_hf` registers its classes only when a command needs them."""

import os
import signal
import sys
from typing import Any, NoReturn


def main() -> int:
    """Run the program."""
    # While modules are imported, Ctrl-C ends the process at once: an exception could be lost, or damage a module.
    signal.signal(signal.SIGINT, exit_on_interrupt)
    from foal_hf.cli import main

    return main()


def exit_on_interrupt(*_: Any) -> NoReturn:
    """The signal handler until a command has something to clean up."""
    try:
        os.write(2, b"foal-hf: interrupted\n")
        stop_server = getattr(sys.modules.get("foal_hf.worker_server"), "stop_server", None)
        if stop_server is not None:  # else the module is not imported, or not completely
            stop_server(for_good=True)
    finally:
        os._exit(130)


__all__ = ["exit_on_interrupt", "main"]
