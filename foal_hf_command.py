"""The program `foal-hf`. With this module loaded, `foal_hf` registers its classes only when a command needs them."""

import os
import shutil
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
    os.write(sys.__stderr__.fileno(), b"foal-hf: interrupted\n")
    server = sys.modules.get("foal_hf.worker_server")
    if server is not None and server.claim_temporary_folder.cache_info().currsize:
        shutil.rmtree(server.claim_temporary_folder(), ignore_errors=True)
    os._exit(130)


__all__ = ["exit_on_interrupt", "main"]
