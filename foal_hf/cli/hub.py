"""`foal-hf push`, `push-dataset` and `push-metric`: upload checkpoints, loading scripts and metrics to the Hub."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the commands and their options."""
    command = add(push)
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="folder of a checkpoint, or foal-net-small")
    command.add_argument("repo_id", metavar="ORG/NAME", help="repository; created if it does not exist")
    command.add_argument("--results", metavar="FILE", help="results file of the run, for the card")
    _add_push_options(command)

    command = add(push_dataset)
    command.add_argument("corpus", metavar="CORPUS", help="name of a corpus that has a loading script")
    command.add_argument("repo_id", metavar="ORG/NAME", help="dataset repository; created if it does not exist")
    command.add_argument("--data-dir", help="folder of the corpus, for --with-data")
    command.add_argument("--with-data", action="store_true", help="upload the recordings too, to a private repository")
    _add_push_options(command)

    command = add(push_metric)
    command.add_argument("metric", metavar="METRIC", help="such as unweighted_accuracy or expected_calibration_error")
    command.add_argument(
        "repo_id", metavar="ORG/NAME", help="Space with the name of the metric; created if it does not exist"
    )
    _add_push_options(command)


def push(options: argparse.Namespace) -> int:
    """Upload a checkpoint to the Hub: weights, processor, card and code, in one commit."""
    from ..hub import push_checkpoint

    pushed = push_checkpoint(
        options.checkpoint,
        options.repo_id,
        results=options.results,
        **_push_options(options),
    )
    return _print_pushed(pushed, options)


def push_dataset(options: argparse.Namespace) -> int:
    """Upload the loading script and card of a corpus, and its recordings if its licence allows it."""
    from ..hub import datasets as hub_datasets

    pushed = hub_datasets.push_dataset(
        options.corpus,
        options.repo_id,
        data_dir=options.data_dir,
        with_data=options.with_data,
        **_push_options(options),
    )
    return _print_pushed(pushed, options)


def push_metric(options: argparse.Namespace) -> int:
    """Upload a metric as a Space, which evaluate.load loads by its name."""
    from ..hub import metrics as hub_metrics

    pushed = hub_metrics.push_metric(
        options.metric,
        options.repo_id,
        **_push_options(options),
    )
    return _print_pushed(pushed, options)


def _add_push_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--revision", help="branch; created if it does not exist (main)")
    command.add_argument("--dry-run", action="store_true", help="list the files without uploading")


def _push_options(options: argparse.Namespace) -> dict[str, Any]:
    return {"private": options.private or None, "revision": options.revision, "dry_run": options.dry_run}


def _print_pushed(pushed: Any, options: argparse.Namespace) -> int:
    print(json.dumps(asdict(pushed), indent=2) if options.json else _push_as_text(pushed))
    return 0


def _push_as_text(pushed: Any) -> str:
    place = f"{pushed.repo_id} ({pushed.revision})"
    if pushed.dry_run:
        lines = [f"{size / 1e6:12.3f} MB  {path}" for path, size in pushed.files]
        total = sum(size for _, size in pushed.files)
        return "\n".join([*lines, f"{total / 1e6:12.3f} MB  in {len(lines)} files would be uploaded to {place}"])
    if not pushed.changed:
        return f"{place} already has the same files"
    return f"uploaded {len(pushed.files)} files to {place}: {pushed.commit_url}"
