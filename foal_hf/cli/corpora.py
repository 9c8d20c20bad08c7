"""`foal-hf inspect`, `prepare` and `embed`: the report of a corpus, its rows as Parquet, its stored features."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .options import CORPUS_HELP, add_corpus_options, add_face_boxes, corpus_options, with_face_boxes


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the commands and their options."""
    command = add(inspect)
    command.add_argument("corpus", metavar="CORPUS", help=CORPUS_HELP)
    add_corpus_options(command, settings="--set")
    command.add_argument("--plot", metavar="FILE", help="plot the counts to a .png, .pdf or .svg file")

    command = add(prepare)
    command.add_argument("corpus", metavar="CORPUS", help=CORPUS_HELP)
    add_corpus_options(command, settings="--set")
    command.add_argument("--output", help="output folder (outputs/corpora/CORPUS)")
    add_face_boxes(command)

    command = add(embed)
    command.add_argument("corpus", metavar="CORPUS", help=CORPUS_HELP)
    add_corpus_options(command, settings="--set")
    command.add_argument("--model", required=True, help="folder or Hub name of the checkpoint that has the encoders")
    command.add_argument("--output", required=True, metavar="STORE", help="folder of the features")
    command.add_argument(
        "--side", choices=("audio", "video", "both"), default="video", help="whose features to store (%(default)s)"
    )
    command.add_argument(
        "--freeze-vision-encoder", action="store_true", help="use the image encoder as it is, although it was trained"
    )
    command.add_argument(
        "--freeze-audio-encoder", action="store_true", help="use the audio encoder as it is, although it was trained"
    )
    add_face_boxes(command)
    command.add_argument("--batch-frames", type=int, default=64, help="frames per forward pass (%(default)s)")
    command.add_argument("--num-workers", type=int, default=1, help="decoding processes (%(default)s)")
    command.add_argument("--device", default="cpu", help="cpu, cuda or mps (%(default)s)")


def inspect(options: argparse.Namespace) -> int:
    """Count the classes, speakers and clip lengths of a corpus, and list its missing files."""
    from ..corpora.report import inspect_corpus
    from ..plots.corpus import plot_corpus

    report = inspect_corpus(options.corpus, options.data_dir, **corpus_options(options))
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.render())
    if options.plot:
        print(f"Plot written to {plot_corpus(report, options.plot, title=options.corpus)}", file=sys.stderr)
    return 0


def prepare(options: argparse.Namespace) -> int:
    """Write the rows of a corpus as Parquet, with the paths of its recordings, and the counts."""
    from ..atomic_files import write_json
    from ..corpora.report import prepare_corpus
    from ..faces import CROP_MARGIN

    output = Path(options.output or Path("outputs") / "corpora" / options.corpus)
    faces: dict[str, Any] = {}

    def with_boxes(corpus: Any) -> Any:
        corpus, found = with_face_boxes(corpus, options, CROP_MARGIN)
        faces.update(faces={"crop_margin": CROP_MARGIN, **found.as_dict()})
        write_json(output / "faces.json", faces["faces"], indent=2)
        return corpus

    settings = {"with_boxes": with_boxes if options.faces else None, **corpus_options(options)}
    report = prepare_corpus(options.corpus, options.data_dir, output, **settings)
    print(json.dumps({**report.as_dict(), **faces}, indent=2) if options.json else report.render())
    note = "the rows hold the paths of the recordings on this machine, not the recordings"
    print(f"Written to {output}: {note}.", file=sys.stderr)
    return 0


def embed(options: argparse.Namespace) -> int:
    """Compute and store the missing features of a corpus, of its video, audio or both, with frozen encoders."""
    from datasets import concatenate_datasets

    from ..checkpoint_errors import errors_naming_checkpoint
    from ..corpora import load_corpus
    from ..data.features import embed as embed_rows
    from ..default_checkpoint import resolve_checkpoint
    from ..foal_net.modeling_foal_net import FoalNetModel
    from ..foal_net.processing_foal_net import FoalNetProcessor
    from ..registration import checked_device

    given = {side: getattr(options, f"freeze_{side}_encoder") for side in ("vision", "audio")}
    frozen: dict[str, Any] = {f"freeze_{side}_encoder": True for side, is_given in given.items() if is_given}
    checkpoint = resolve_checkpoint(options.model)
    with errors_naming_checkpoint(checkpoint):
        model = FoalNetModel.from_pretrained(checkpoint, **frozen)
        processor = FoalNetProcessor.from_pretrained(checkpoint)
    if options.freeze_audio_encoder and model.audio_layer_weights is not None:
        model.audio_layer_weights.requires_grad_(False)
    model = model.to(checked_device(options.device))
    splits = load_corpus(options.corpus, options.data_dir, split=None, **corpus_options(options))
    if options.faces and processor.video_processor is not None:
        processor.video_processor.crop = "face"  # as `train --faces` reads
        splits, _ = with_face_boxes(splits, options, processor.video_processor.crop_margin)
    store = embed_rows(
        concatenate_datasets(list(splits.values())),
        model,
        processor,
        options.output,
        sides=("video", "audio") if options.side == "both" else (options.side,),
        batch_frames=options.batch_frames,
        num_workers=options.num_workers,
        on_error=options.on_error or "raise",
    )
    result = {"store": str(store.directory), "clips": len(store), "bytes": store.num_bytes, "skipped": store.skipped}
    counted = f"features of {len(store)} clips" + (
        " (audio and video counted apart)" if options.side != "video" else ""
    )
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"{store.directory} holds the {counted} in {store.num_bytes / 1e6:.1f} MB")
    return 1 if store.skipped else 0
