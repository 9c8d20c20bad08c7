"""The former place of `foal_hf.data.features`; goes with version 1.0."""

from .data.features import FeatureClipDataset, FeatureCollator, FeatureStore, FeatureStoreError, embed


__all__ = ["FeatureClipDataset", "FeatureCollator", "FeatureStore", "FeatureStoreError", "embed"]
