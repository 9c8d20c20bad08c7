"""`foal-hf push` and `foal-hf push-dataset`: checkpoints and loading scripts to the Hub."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the commands and their options."""
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

    command = add(push_metric)
    command.add_argument("metric", metavar="METRIC", help="such as unweighted_accuracy or expected_calibration_error")
    command.add_argument("repo_id", metavar="ORG/NAME", help="Space, named like the metric; made where it is missing")
    _add_push_options(command)


def push(options: argparse.Namespace) -> int:
    """Publish a checkpoint on the Hub: weights, processor, card and code, in one commit."""
    from ..hub import push_checkpoint

    pushed = push_checkpoint(
        options.checkpoint,
        options.repo_id,
        results=options.results,
        **_push_options(options),
    )
    return _print_pushed(pushed, options)


def push_dataset(options: argparse.Namespace) -> int:
    """Publish the loading script and the card of a corpus; its recordings only where its licence lets them go."""
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
    """Publish a metric as a Space, which evaluate.load takes by its name."""
    from ..hub import metrics as hub_metrics

    pushed = hub_metrics.push_metric(
        options.metric,
        options.repo_id,
        **_push_options(options),
    )
    return _print_pushed(pushed, options)


def _add_push_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--revision", help="branch; made where it does not exist (main)")
    command.add_argument("--dry-run", action="store_true", help="list the files, and push nothing")


def _push_options(options: argparse.Namespace) -> dict[str, Any]:
    return {"private": options.private or None, "revision": options.revision, "dry_run": options.dry_run}


def _print_pushed(pushed: Any, options: argparse.Namespace) -> int:
    print(json.dumps(asdict(pushed), indent=2) if options.json else _push_in_words(pushed))
    return 0


def _push_in_words(pushed: Any) -> str:
    place = f"{pushed.repo_id} ({pushed.revision})"
    if pushed.dry_run:
        lines = [f"{size / 1e6:12.3f} MB  {path}" for path, size in pushed.files]
        total = sum(size for _, size in pushed.files)
        return "\n".join([*lines, f"{total / 1e6:12.3f} MB  in {len(lines)} files would go to {place}"])
    if not pushed.changed:
        return f"{place} holds the same files already"
    return f"{len(pushed.files)} files are in {place}: {pushed.commit_url}"
