"""`foal-hf demo` in a process of its own, which says at the end what it connected to and what names it looked up.

python demo_child.py ASKED [OPTION...]
"""

import json
import sys
from pathlib import Path
from typing import Any

from foal_hf.cli import main


asked: set[Any] = set()


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    """Keep where a connection goes; sockets of this machine that have no address are none."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        asked.add(arguments[1][0])
    elif event == "socket.getaddrinfo":
        asked.add(arguments[0])


sys.addaudithook(listen)
code = main(["demo", *sys.argv[2:]])
Path(sys.argv[1]).write_text(json.dumps(sorted(map(str, asked))), encoding="utf-8")
sys.exit(code)
