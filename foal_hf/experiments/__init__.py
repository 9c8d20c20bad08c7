"""Experiments: a recipe on a corpus, under a protocol without leaks from the test split.

    train_and_test         one fold: train, choose the checkpoint, test once, save
    cross_validate         every fold, with one or several seeds
    ablate                 the paper's table: video alone, audio alone, fusion, + AVEL, + MEM, both
    evaluate_checkpoint    any checkpoint on any corpus

All of them continue where they were interrupted, and do not repeat finished runs.
"""

from .ablation import VARIANTS, ablate
from .corpus_facts import describe_corpus
from .cross_validation import cross_validate
from .evaluation import evaluate_checkpoint
from .naming import clips_of_session, find_fold, fold_of_splits
from .run import train_and_test


__all__ = [
    "VARIANTS",
    "ablate",
    "clips_of_session",
    "cross_validate",
    "describe_corpus",
    "evaluate_checkpoint",
    "find_fold",
    "fold_of_splits",
    "train_and_test",
]
