"""`foal-hf export`: a checkpoint as graphs that CPUs run faster than torch does."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    command = add(export)
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or Hub name of a Foal-Net with its processor")
    command.add_argument(
        "--format", choices=("openvino", "onnx"), default="openvino", help="what is to run it (%(default)s)"
    )
    command.add_argument("--output", metavar="FOLDER", required=True, help="where to write it")
    command.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="how weights are kept (%(default)s)"
    )


def export(options: argparse.Namespace) -> int:
    """Write a checkpoint for OpenVINO or onnxruntime, which are faster on CPUs; every command takes it for a model."""
    from ..export import export_checkpoint

    written = export_checkpoint(options.checkpoint, options.output, format=options.format, dtype=options.dtype)
    if options.json:
        print(json.dumps({**asdict(written), "folder": str(written.folder)}, indent=2))
        return 0
    print(f"{written.folder}: {written.num_bytes / 1e6:.1f} MB for {written.format}")
    print(f"Logits and embeddings differ from the checkpoint's by at most {written.max_difference:.1e}.")
    return 0
