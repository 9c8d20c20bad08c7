"""The command `foal-hf`: parses, calls one function of the library, prints."""

import argparse
import contextlib
import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments (`Sequence[str]`, *optional*): Without the program's name; those of the process by default.

    Returns:
        `int`: 0 where it worked, 1 where it did not, 2 for misuse.
    """
    options = _parser().parse_args(arguments)
    # transformers' WavLM passes a boolean padding mask beside a float position bias; nobody here can change that.
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    try:
        if options.run is not doctor:  # which has to work where nothing else does
            from .registration import register

            register()
        return options.run(options)
    except KeyboardInterrupt:
        print("foal-hf: interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError, RuntimeError, ImportError, subprocess.SubprocessError) as error:
        print(f"foal-hf: {error}", file=sys.stderr)
        return 1


def quickstart(options: argparse.Namespace) -> int:
    """Generate clips, train a tiny Foal-Net on them, test it on unseen speakers, save it and use it."""
    from .quickstart import render_table, run_quickstart

    with contextlib.redirect_stdout(sys.stderr):  # Trainer prints what it logs: standard output is for the result
        result = run_quickstart(options.output, seed=options.seed)
    if options.json:
        print((Path(options.output) / "results.json").read_text(encoding="utf-8"), end="")
        return 0
    num_test = result.num_clips["test"]
    print(f"\nTrained on generated clips in {result.train_seconds:.0f} s. Speakers that it was not trained on:\n")
    print(render_table(result))
    print(f"\nA new process gave {result.predictions_agree} of {num_test} held-out files the same label.\n")
    for name in ("checkpoint", "confusion_matrix", "timeline"):
        print(f"{name:<17} {getattr(result, name)}")
    print(
        f"\nNext: foal-hf predict --model {result.checkpoint} YOUR_CLIP.mp4   (its labels mean nothing on real people)"
    )
    return 0


def predict(options: argparse.Namespace) -> int:
    """Name the emotion in clips."""
    from tqdm.auto import tqdm
    from transformers import pipeline

    from .registration import TASK

    classify: Any = pipeline(TASK, model=options.model, device=options.device)  # type: ignore[call-overload]
    settings = {"modality": options.modality, "top_k": options.top_k, "batch_size": options.batch_size}
    answers = classify((file for file in options.files), on_error="skip", return_embeddings=True, **settings)
    entries = []
    for file, answer in zip(options.files, tqdm(answers, total=len(options.files), unit="clip"), strict=True):
        if "error" in answer:
            entries.append({"file": file, **answer})
        else:
            entries.append({"file": file, "modalities": answer["modalities"], "scores": answer["scores"]})
    if options.json:
        print(json.dumps(entries, indent=2))
    else:
        for entry in entries:
            print(_one_line(entry), file=sys.stderr if "error" in entry else sys.stdout)
    return 1 if any("error" in entry for entry in entries) else 0


def inspect(options: argparse.Namespace) -> int:
    """Count what is in a corpus, and list the files that are missing."""
    from .corpus_plots import plot_corpus
    from .corpus_report import inspect_corpus

    report = inspect_corpus(options.corpus, options.data_dir, **_corpus_options(options))
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.render())
    if options.plot:
        print(f"The picture is in {plot_corpus(report, options.plot, title=options.corpus)}", file=sys.stderr)
    return 0


def prepare(options: argparse.Namespace) -> int:
    """Write the rows of a corpus as Parquet, with the paths of its media, and their counts."""
    from .corpus_report import prepare_corpus

    output = options.output or Path("outputs") / "corpora" / options.corpus
    report = prepare_corpus(options.corpus, options.data_dir, output, **_corpus_options(options))
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.render())
    note = "the rows name sound and picture by their paths on this machine, and hold neither"
    print(f"Written to {output}: {note}.", file=sys.stderr)
    return 0


def embed(options: argparse.Namespace) -> int:
    """Compute and keep the features that a frozen image encoder gives for a corpus, as far as they are missing."""
    from datasets import concatenate_datasets

    from .corpora import load_corpus
    from .features import embed as embed_rows
    from .modeling_foal_net import FoalNetModel
    from .processing_foal_net import FoalNetProcessor

    frozen: dict[str, Any] = {"freeze_vision_encoder": True} if options.freeze_vision_encoder else {}
    model = FoalNetModel.from_pretrained(options.model, **frozen).to(options.device)
    splits = load_corpus(options.corpus, options.data_dir, split=None, **_corpus_options(options))
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


def push(options: argparse.Namespace) -> int:
    """Publish a checkpoint on the Hub: weights, processor, card and code, in one commit."""
    from .hub import push_checkpoint

    pushed = push_checkpoint(
        options.checkpoint,
        options.repo_id,
        results=options.results,
        private=options.private or None,
        revision=options.revision,
        dry_run=options.dry_run,
    )
    print(json.dumps(asdict(pushed), indent=2) if options.json else _push_in_words(pushed))
    return 0


def push_dataset(options: argparse.Namespace) -> int:
    """Publish the loading script and the card of a corpus; its recordings only where its licence lets them go."""
    from . import hub_datasets

    pushed = hub_datasets.push_dataset(
        options.corpus,
        options.repo_id,
        data_dir=options.data_dir,
        with_data=options.with_data,
        private=options.private or None,
        revision=options.revision,
        dry_run=options.dry_run,
    )
    print(json.dumps(asdict(pushed), indent=2) if options.json else _push_in_words(pushed))
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Say what is installed, what is missing, and the command that mends it."""
    from .doctor import main as diagnose

    return diagnose(json=options.json)


def _push_in_words(pushed: Any) -> str:
    place = f"{pushed.repo_id} ({pushed.revision})"
    if pushed.dry_run:
        lines = [f"{size / 1e6:12.3f} MB  {path}" for path, size in pushed.files]
        total = sum(size for _, size in pushed.files)
        return "\n".join([*lines, f"{total / 1e6:12.3f} MB  in {len(lines)} files would go to {place}"])
    if not pushed.changed:
        return f"{place} holds the same files already"
    return f"{len(pushed.files)} files are in {place}: {pushed.commit_url}"


def _one_line(entry: dict[str, Any]) -> str:
    if "error" in entry:
        return f"error: {entry['error']}"
    scores = "  ".join(f"{score['label']} {score['score']:.2f}" for score in entry["scores"])
    return f"{entry['file']}: {scores}  ({' and '.join(entry['modalities'])})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="foal-hf", description="Emotion of a speaking person from sound and picture.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(run: Any) -> argparse.ArgumentParser:
        command = commands.add_parser(run.__name__.replace("_", "-"), help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="print JSON, for machines")
        return command

    command = add(quickstart)
    command.add_argument("--output", default="outputs/quickstart", help="folder of the results (%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of clips, weights and batches (%(default)s)")

    command = add(predict)
    command.add_argument("files", nargs="+", metavar="FILE", help="a clip: a path or an http(s) URL")
    command.add_argument("--model", help="folder or Hub name of a checkpoint; the tiny one that ships by default")
    command.add_argument("--modality", choices=("both", "audio", "video"), default="both", help="what to look at")
    command.add_argument("--top-k", type=int, help="print the most likely emotions only")
    command.add_argument("--batch-size", type=int, default=8, help="clips per pass of the model (%(default)s)")
    command.add_argument("--device", help="cpu, cuda, mps; what is there by default")

    command = add(inspect)
    _add_corpus_options(command)
    command.add_argument("--plot", metavar="FILE", help="draw it: .png, .pdf or .svg")

    command = add(prepare)
    _add_corpus_options(command)
    command.add_argument("--output", help="folder for the files (outputs/corpora/CORPUS)")

    command = add(embed)
    _add_corpus_options(command)
    command.add_argument("--model", required=True, help="folder or Hub name of a checkpoint, whose image encoder it is")
    command.add_argument("--output", required=True, metavar="STORE", help="folder of the features")
    command.add_argument(
        "--freeze-vision-encoder", action="store_true", help="take the image encoder as it is, though it was trained"
    )
    command.add_argument("--batch-frames", type=int, default=64, help="frames in a pass of the encoder (%(default)s)")
    command.add_argument("--num-workers", type=int, default=1, help="processes that decode (%(default)s)")
    command.add_argument("--device", default="cpu", help="cpu, cuda, mps (%(default)s)")

    command = add(push)
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="folder that a model and its processor were saved to")
    command.add_argument("repo_id", metavar="ORG/NAME", help="repository; made where it does not exist")
    command.add_argument("--results", metavar="FILE", help="results file of the run, which the card is made from")
    _add_push_options(command)

    command = add(push_dataset)
    command.add_argument("corpus", metavar="CORPUS", help="name of a corpus that has a loading script")
    command.add_argument("repo_id", metavar="ORG/NAME", help="dataset repository; made where it does not exist")
    command.add_argument("--data-dir", help="folder of the corpus, for --with-data")
    command.add_argument("--with-data", action="store_true", help="push the recordings too, to a private repository")
    _add_push_options(command)

    add(doctor)
    return parser


def _add_corpus_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("corpus", metavar="CORPUS", help="iemocap, crema_d, ravdess, or folder for one of your own")
    command.add_argument("--data-dir", help="folder of your copy")
    command.add_argument("--config", help="which configuration of the corpus; its default by default")
    command.add_argument("--on-error", choices=("raise", "skip"), help="for files that cannot be read")
    command.add_argument("--allow-partial", action="store_true", help="take a copy that lacks something")
    command.add_argument("--cache-dir", help="where the table of rows is kept")
    command.add_argument(
        "--set",
        action="append",
        type=_name_and_value,
        default=[],
        metavar="NAME=VALUE",
        help="another option of the corpus, its value as JSON: --set seed=1",
    )


def _corpus_options(options: argparse.Namespace) -> dict[str, Any]:
    """Options of `load_corpus` that were given."""
    given = {"config": options.config, "cache_dir": options.cache_dir, "on_error": options.on_error}
    if options.allow_partial:
        given["allow_partial"] = True
    return {name: value for name, value in given.items() if value is not None} | dict(options.set)


def _name_and_value(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a bare word


def _add_push_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--revision", help="branch; made where it does not exist (main)")
    command.add_argument("--dry-run", action="store_true", help="list the files, and push nothing")
