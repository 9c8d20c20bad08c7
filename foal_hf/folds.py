"""The former place of `foal_hf.corpora.folds`; goes with version 1.0."""

from .corpora.folds import Fold, make_folds, split_groups


__all__ = ["Fold", "make_folds", "split_groups"]
