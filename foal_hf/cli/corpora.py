"""`foal-hf inspect`, `prepare` and `embed`: what is in a corpus, its rows, and the stored features of its pictures."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .options import CORPUS_HELP, add_corpus_options, corpus_options


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the commands and their options."""
    command = add(inspect)
    command.add_argument("corpus", metavar="CORPUS", help=CORPUS_HELP)
    add_corpus_options(command, settings="--set")
    command.add_argument("--plot", metavar="FILE", help="draw it: .png, .pdf or .svg")

    command = add(prepare)
    command.add_argument("corpus", metavar="CORPUS", help=CORPUS_HELP)
    add_corpus_options(command, settings="--set")
    command.add_argument("--output", help="folder for the files (outputs/corpora/CORPUS)")

    command = add(embed)
    command.add_argument("corpus", metavar="CORPUS", help=CORPUS_HELP)
    add_corpus_options(command, settings="--set")
    command.add_argument("--model", required=True, help="folder or Hub name of a checkpoint, whose image encoder it is")
    command.add_argument("--output", required=True, metavar="STORE", help="folder of the features")
    command.add_argument(
        "--freeze-vision-encoder", action="store_true", help="take the image encoder as it is, though it was trained"
    )
    command.add_argument("--batch-frames", type=int, default=64, help="frames in a pass of the encoder (%(default)s)")
    command.add_argument("--num-workers", type=int, default=1, help="processes that decode (%(default)s)")
    command.add_argument("--device", default="cpu", help="cpu, cuda, mps (%(default)s)")


def inspect(options: argparse.Namespace) -> int:
    """Count what is in a corpus, and list the files that are missing."""
    from ..corpora.report import inspect_corpus
    from ..plots.corpus import plot_corpus

    report = inspect_corpus(options.corpus, options.data_dir, **corpus_options(options))
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.render())
    if options.plot:
        print(f"The picture is in {plot_corpus(report, options.plot, title=options.corpus)}", file=sys.stderr)
    return 0


def prepare(options: argparse.Namespace) -> int:
    """Write the rows of a corpus as Parquet, with the paths of its media, and their counts."""
    from ..corpora.report import prepare_corpus

    output = options.output or Path("outputs") / "corpora" / options.corpus
    report = prepare_corpus(options.corpus, options.data_dir, output, **corpus_options(options))
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.render())
    note = "the rows name sound and picture by their paths on this machine, and hold neither"
    print(f"Written to {output}: {note}.", file=sys.stderr)
    return 0


def embed(options: argparse.Namespace) -> int:
    """Compute and keep the features that a frozen image encoder gives for a corpus, as far as they are missing."""
    from datasets import concatenate_datasets

    from ..corpora import load_corpus
    from ..data.features import embed as embed_rows
    from ..foal_net.modeling_foal_net import FoalNetModel
    from ..foal_net.processing_foal_net import FoalNetProcessor

    frozen: dict[str, Any] = {"freeze_vision_encoder": True} if options.freeze_vision_encoder else {}
    model = FoalNetModel.from_pretrained(options.model, **frozen).to(options.device)
    splits = load_corpus(options.corpus, options.data_dir, split=None, **corpus_options(options))
    store = embed_rows(
        concatenate_datasets(list(splits.values())),
        model,
        FoalNetProcessor.from_pretrained(options.model),
        options.output,
        batch_frames=options.batch_frames,
        num_workers=options.num_workers,
        on_error=options.on_error or "raise",
    )
    result = {"store": str(store.directory), "clips": len(store), "bytes": store.num_bytes, "skipped": store.skipped}
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"{store.directory} holds the features of {len(store)} clips in {store.num_bytes / 1e6:.1f} MB")
    return 1 if store.skipped else 0
