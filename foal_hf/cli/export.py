"""`foal-hf export`: a checkpoint as graphs that run faster on CPUs."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    command = add(export)
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or Hub name of a Foal-Net with its processor")
    command.add_argument("--format", choices=("openvino", "onnx"), default="openvino", help="runtime (%(default)s)")
    command.add_argument("--output", metavar="FOLDER", required=True, help="output folder")
    command.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="type of the stored weights (%(default)s)"
    )


def export(options: argparse.Namespace) -> int:
    """Export a checkpoint to OpenVINO or onnxruntime, which are faster on CPUs; --model accepts the result."""
    from ..export import export_checkpoint

    written = export_checkpoint(options.checkpoint, options.output, format=options.format, dtype=options.dtype)
    if options.json:
        print(json.dumps({**asdict(written), "folder": str(written.folder)}, indent=2))
        return 0
    print(f"{written.folder}: {written.num_bytes / 1e6:.1f} MB for {written.format}")
    print(f"Maximum difference of logits and embeddings from the checkpoint: {written.max_difference:.1e}.")
    return 0
