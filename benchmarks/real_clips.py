"""The paper's table on a folder of real clips: `python benchmarks/real_clips.py CLIPS --output OUT`.

Trains the recipe `tiny` from scratch, on speakers that the test does not have: the speakers of the folder are put into
groups of equal size, each of which is held out once. CLIPS is a folder corpus, with speaker and emotion in its
metadata.csv. Interrupted, it goes on. It prints the table, and leaves everything behind it in OUT.
"""

import argparse
import contextlib
import json
import sys
import time
from typing import Any

import torch
from datasets import concatenate_datasets

from foal_hf.corpora import load_corpus
from foal_hf.latency import describe_hardware
from foal_hf.protocols import VARIANTS, ablate
from foal_hf.protocols.reports import ablation_report
from foal_hf.recipe import load_recipe
from foal_hf.results import Corpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", help="folder of the clips and their metadata.csv")
    parser.add_argument("--output", required=True, help="folder of the runs")
    parser.add_argument("--name", default="a folder of real clips", help="what to call the corpus (%(default)s)")
    parser.add_argument("--recipe", default="tiny", help="a recipe, or a file with one (%(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another setting of the recipe"
    )
    parser.add_argument("--num-folds", type=int, default=6, help="groups of speakers (%(default)s)")
    parser.add_argument("--only-folds", nargs="+", default=[], help="numbers of some folds, for a trial")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help="rows of the table")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="(0 1 2)")
    parser.add_argument("--select", default="validation", choices=("validation", "last"), help="(%(default)s)")
    parser.add_argument("--num-threads", type=int, default=1, help="of torch; 1 repeats to the bit (%(default)s)")
    options = parser.parse_args()

    torch.set_num_threads(options.num_threads)
    recipe = load_recipe(options.recipe).with_settings(dict(map(name_and_value, options.set)))
    corpus = with_groups(concatenate_datasets(list(load_corpus("folder", options.clips, split=None).values())), options)
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        table = ablate(
            recipe,
            corpus,
            options.output,
            about=Corpus(options.name),
            select=options.select,
            seeds=options.seeds,
            held_out=options.only_folds,
            variants=options.variants,
        )
    print(ablation_report(table))
    num_runs = sum(len(results.folds) for results in table.values())
    print(f"{num_runs} runs in {time.perf_counter() - started:.0f} s on {describe_hardware()}")


def with_groups(corpus: Any, options: argparse.Namespace) -> Any:
    """The corpus with the number of each speaker's group as its session; every n-th speaker is in one group."""
    speakers = sorted(set(corpus["speaker"]))
    group_of = {speaker: str(index % options.num_folds + 1) for index, speaker in enumerate(speakers)}
    groups = [group_of[speaker] for speaker in corpus["speaker"]]
    return corpus.remove_columns("session").add_column("session", groups)


def name_and_value(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    with contextlib.suppress(ValueError):
        return name, json.loads(value)
    return name, value


if __name__ == "__main__":
    main()
