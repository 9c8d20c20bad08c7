"""Computes features in a process of its own: `feature_child.py CHECKPOINT ROWS STORE [FSYNC_THAT_KILLS [SIDE]]`.

It says "ready", waits for a line, and then begins; a clip makes a shard. With the last argument it kills itself, as
`kill -9` does, when it makes that many calls of fsync for a file: one per shard, before the shard has its name.
"""

import json
import os
import signal
import stat
import sys
from pathlib import Path

from foal_hf import FoalNetModel, FoalNetProcessor
from foal_hf.data.features import embed


def main(checkpoint: str, rows: str, store_dir: str, fsync_that_kills: str = "0", side: str = "video") -> None:
    calls_left, real_fsync = int(fsync_that_kills), os.fsync

    def fsync(handle: int) -> None:
        nonlocal calls_left
        calls_left -= stat.S_ISREG(os.fstat(handle).st_mode)  # that of the folder comes after
        if calls_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        real_fsync(handle)

    os.fsync = fsync
    model, processor = FoalNetModel.from_pretrained(checkpoint), FoalNetProcessor.from_pretrained(checkpoint)
    model.audio_encoder.requires_grad_(False)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    options = {"sides": (side,), "num_workers": 0, "progress": False, "shard_bytes": 1}
    embed(json.loads(Path(rows).read_text()), model, processor, store_dir, **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
