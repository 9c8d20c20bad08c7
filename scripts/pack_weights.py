#!/usr/bin/env python
"""Put a trained checkpoint into the distribution foal-net-small: `python scripts/pack_weights.py FOLDER`.

FOLDER has the saved model and its processor, and the results file of its run. The code in it stays behind; the results
file gets the licence and the sources, which follow from the recordings that were used, and the card is made from both.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from foal_hf import FoalNetConfig
from foal_hf.experiments import describe_corpus
from foal_hf.hub import CARD_NAME, RESULTS_NAME
from foal_hf.hub.cards import model_card
from foal_hf.results import Corpus, Results


TARGET = Path(__file__).resolve().parents[1] / "weights" / "foal-net-small" / "foal_net_small" / "checkpoint"
FILES = ("config.json", "model.safetensors", "processor_config.json")
LICENSE = "cc-by-nc-sa-4.0"  # share alike: that of the voices
MOST_BYTES = 12_000_000

VOICES = replace(
    describe_corpus("ravdess"),
    duty="Weights trained on it are passed on under this licence only, not for commercial use, and with this credit",
    description="Spoken clips of 18 of its 24 actors, in North American English; their sound only",
    citation="Livingstone SR, Russo FA (2018), The Ryerson Audio-Visual Database of Emotional Speech and Song "
    "(RAVDESS), PLoS ONE 13(5): e0196391, doi:10.1371/journal.pone.0196391",
)
FACES = Corpus(
    "muxspace/facial_expressions",
    url="https://github.com/muxspace/facial_expressions",
    license="Apache-2.0, as its authors say",
    description="Face crops of press and web photographs, still and of other people than the speakers",
    citation="muxspace, facial_expressions, on GitHub",
)
NOT_MEASURED = [
    "faces that move and speak with their own voice",
    "spontaneous speech and films",
    "other languages than English",
    "voices of children and old people",
]


def pack(source: Path, target: Path) -> None:
    """Fill the folder of the distribution's checkpoint.

    Raises:
        ValueError: If the results file lists no training clips, or the files are too large.
    """
    results = Results.load(source / RESULTS_NAME)
    if "train" not in results.splits or not results.splits["train"].clip_ids:
        raise ValueError(f"{source / RESULTS_NAME} has to list the training clips, as `splits['train'].clip_ids`.")
    size = sum((source / name).stat().st_size for name in FILES)
    if size > MOST_BYTES:
        raise ValueError(f"The files in {source} have {size:,} bytes, more than the {MOST_BYTES:,} of a distribution.")
    corpus = replace(results.corpus, sources=[VOICES, FACES], languages=VOICES.languages, acted=True)
    not_measured = results.not_measured or NOT_MEASURED
    results = replace(results, corpus=corpus, license=LICENSE, not_measured=not_measured)
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(source / name, target / name)
    results.save(target / RESULTS_NAME)
    card = model_card(FoalNetConfig.from_pretrained(target), Results.load(target / RESULTS_NAME))
    (target / CARD_NAME).write_text(card, encoding="utf-8")


if __name__ == "__main__":
    pack(Path(sys.argv[1]), TARGET)
