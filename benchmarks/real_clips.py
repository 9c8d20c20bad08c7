"""The paper's table on a folder of real clips: `python benchmarks/real_clips.py --clips CLIPS --runs RUNS --threads 1`.

Trains the recipe beside it from scratch, on speakers that the test does not have: the speakers of the folder are put
into groups of equal size, each of which is held out once. CLIPS is a folder corpus, with speaker and emotion in its
metadata.csv. No checkpoint is chosen: the last epoch is tested. The encoders begin with the same random weights in each
run; the rest, and the order of the clips, comes from the seed. Interrupted, it goes on. With one thread it repeats to
the bit. It leaves everything behind it in RUNS.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import concatenate_datasets
from harness import arguments, save, target
from transformers import (
    AutoModel,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
)

from foal_hf.corpora import load_corpus
from foal_hf.experiments import VARIANTS, ablate
from foal_hf.experiments.recipe import load_recipe
from foal_hf.results import Corpus, Results


ANCHORS = {"video alone": "49 %", "audio alone": "67 %", "fusion": "72 %"}
RECIPE = Path(__file__).with_suffix(".yaml")
AUDIO = WavLMConfig(
    hidden_size=64,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=128,
    conv_dim=(64, 64),
    conv_kernel=(400, 8),  # 25 ms every 10 ms, and then 25 positions a second
    conv_stride=(160, 4),
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    feat_extract_norm="layer",
    do_stable_layer_norm=True,
    num_buckets=32,
    max_bucket_distance=128,
    mask_time_prob=0.1,
    mask_time_length=5,
    layerdrop=0.0,
)
VISION = CLIPVisionConfig(
    hidden_size=64,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=128,
    image_size=48,
    patch_size=8,
    projection_dim=64,
    initializer_range=0.1,
    attention_dropout=0.1,
)


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        clips={"required": True, "help": "folder of the clips and their metadata.csv"},
        runs={"required": True, "help": "folder of the runs"},
        recipe={"default": str(RECIPE), "help": "a recipe, or a file with one; without encoders it gets small ones"},
        set={"action": "append", "default": [], "metavar": "NAME=VALUE", "help": "another setting of the recipe"},
        num_folds={"type": int, "default": 6, "help": "groups of speakers (%(default)s)"},
        only_folds={"nargs": "+", "default": [], "help": "numbers of some folds, for a trial"},
        variants={"nargs": "+", "default": list(VARIANTS), "help": "rows of the table"},
        seeds={"nargs": "+", "type": int, "default": [0, 1, 2], "help": "(0 1 2)"},
        select={"default": "last", "choices": ("validation", "last"), "help": "(%(default)s)"},
    )
    recipe = load_recipe(options.recipe).with_settings(dict(map(name_and_value, options.set)))
    if recipe.audio_encoder is None:
        audio, vision = make_encoders(Path(options.runs, "encoders"))
        recipe = dataclasses.replace(recipe, audio_encoder=str(audio), vision_encoder=str(vision))
    corpus = with_groups(concatenate_datasets(list(load_corpus("folder", options.clips, split=None).values())), options)
    with contextlib.redirect_stdout(sys.stderr):
        results = ablate(
            recipe,
            corpus,
            options.runs,
            about=Corpus("real clips"),
            select=options.select,
            seeds=options.seeds,
            held_out=options.only_folds,
            variants=options.variants,
        )
    rows = {name: row(name, table) for name, table in results.items()}
    columns = {
        "trained with": "",
        "UA": "%",
        "between seeds": "%",
        "95 % interval": "",
        "WA": "%",
        "a support vector machine": "",
    }
    save(
        "real_clips",
        f"{len(corpus)} clips of {len(set(corpus['speaker']))} speakers, {options.num_folds} folds by speaker, "
        f"{len(options.seeds)} seeds",
        columns,
        rows.values(),
        [
            "UA and WA: mean of the seeds, each of all clips, judged when their speaker was held out; then the "
            "standard deviation between seeds, and the 95 % bootstrap interval, drawn by speaker. Support vector "
            "machines: on the same clips in six folds by speaker, on mel statistics of the sound, on the gradients "
            "(HOG) of one picture, and both fused late.",
            "Sound and picture of a clip are of different people with the same labelled emotion, so that the numbers "
            "say whether a model learns from real signals, and nothing about people.",
        ],
        options=options,
        targets=[target("UA of Foal-Net", rows["Foal-Net"][1], at_least=0.72, unit="%")] if "Foal-Net" in rows else (),
    )


def row(name: str, results: Results) -> list[Any]:
    """What one variant came to."""
    test = results.conditions[results.main_condition or ""]
    ua, wa = test.unweighted_accuracy, test.weighted_accuracy
    interval = None if ua.interval is None else f"{100 * ua.interval[0]:.1f} to {100 * ua.interval[1]:.1f} %"
    return [name, ua.mean_of_runs, ua.standard_deviation, interval, wa.mean_of_runs, ANCHORS.get(name, "")]


def make_encoders(folder: Path) -> tuple[Path, Path]:
    """Small encoders with random weights, and what prepares their inputs; those of an interrupted run are kept."""
    torch.manual_seed(0)
    audio, vision = folder / "audio", folder / "vision"
    if not vision.exists():
        AutoModel.from_config(AUDIO).save_pretrained(audio)
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(audio)
        CLIPVisionModelWithProjection(VISION).save_pretrained(unfinished := folder / "unfinished")
        size = {"height": VISION.image_size, "width": VISION.image_size}
        CLIPImageProcessorPil(size=size, resample=2, do_center_crop=False).save_pretrained(unfinished)
        unfinished.rename(vision)
    return audio, vision


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
