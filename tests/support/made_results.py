"""Results of runs that never were, for tests: every number in them is made up."""

from typing import Any

import numpy as np

from foal_hf.results import (
    Corpus,
    Encoder,
    Evaluation,
    Latency,
    Protocol,
    Results,
    Split,
    Training,
)


LABELS = ["happy", "neutral", "sad", "angry"]


def made_evaluation(num_clips: int = 211, num_speakers: int = 7, seed: int = 0) -> Evaluation:
    """A test in which about 7 of 10 clips are right, with speakers and genders."""
    generator = np.random.default_rng(seed)
    references = generator.integers(len(LABELS), size=num_clips)
    guesses = generator.integers(len(LABELS), size=num_clips)
    speakers = generator.integers(num_speakers, size=num_clips)
    return Evaluation.from_predictions(
        references,
        np.where(generator.random(num_clips) < 0.6, references, guesses),
        LABELS,
        clusters=[f"speaker {index}" for index in speakers],
        groups={"gender": ["female" if index % 2 else "male" for index in speakers]},
    )


def made_results(**fields: Any) -> Results:
    """A run of which everything is known."""
    everything = {
        "corpus": Corpus(
            name="Made-up Corpus",
            hub_id="org/made-up",
            url="https://example.org/made-up",
            license="Made-up Licence 1.0",
            duty="Whoever passes the model on names its makers.",
            languages=["en", "de"],
            generated=False,
            acted=True,
            description="Two people talk to each other",
        ),
        "labels": LABELS,
        "merged_classes": {"happy": ["excited"]},
        "protocol": Protocol("leave-one-session-out", "Each session is held out once", held_out="session 5"),
        "splits": {
            "train": Split(1201, 8, clip_ids=["Ses01F_impro01_F000", "actor_01/clip_3"]),
            "test": Split(211, 7),
        },
        "selection": "validation",
        "selected_epoch": 13.0,
        "selection_score": 0.7123,
        "seeds": [3, 5],
        "conditions": {
            "audio alone": made_evaluation(seed=1),
            "video alone": made_evaluation(seed=2),
            "both": made_evaluation(seed=3),
        },
        "license": "cc-by-4.0",
        "training": Training(
            audio_encoder=Encoder("org/ears", license="MIT", duty="Keep the notice."),
            vision_encoder=Encoder("org/eyes", license="Apache-2.0"),
            recipe="paper",
            num_epochs=40.0,
            batch_size=16,
            learning_rate=1e-4,
            schedule="constant",
            optimizer="adamw",
            precision="fp16",
            loss_weights={"classification": 1.0, "alignment": 1.0, "matching": 0.1},
            modality_dropout=0.0,
            frames_per_second=30.0,
            max_seconds=6.0,
            seconds=4321.0,
            hardware="Imaginary GPU",
        ),
        "latency": [
            Latency("pipeline", 0.1234, "Imaginary CPU, 2 threads", 4.5, 1, 9),
            Latency("model alone", 0.0123, "Imaginary GPU", versions={"torch": "9.9"}),
        ],
        "versions": {"torch": "2.13.0", "transformers": "5.23.0", "foal_hf": "0.1.0"},
        "commit": "0123456789abcdef",
    }
    return Results(**{**everything, **fields})


def minimal_results(**fields: Any) -> Results:
    """A run of which nothing is known but what has to be."""
    known = {
        "corpus": Corpus("Made-up Corpus"),
        "labels": LABELS,
        "protocol": Protocol("speaker-disjoint", "No speaker is in two parts."),
        "selection": "last",
    }
    return Results(**{**known, **fields})
