"""Fine-tuning: a training that starts from the weights, the processor and the labels of a checkpoint."""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from huggingface_hub.file_download import REGEX_COMMIT_HASH
from torch import nn
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from ..checkpoint_errors import errors_naming_checkpoint
from ..default_checkpoint import DISTRIBUTION, REPO_ID, resolve_checkpoint
from ..foal_net.configuration_foal_net import FoalNetConfig
from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification
from ..foal_net.processing_foal_net import FoalNetProcessor
from ..hub import CARD_NAME
from ..hub.cards.markdown import counted
from ..hub.cards.parameters import is_headless
from ..identity import as_stored, digest_of, digest_of_file, without_provenance
from ..results import Corpus, Encoder, Start, public_name
from .recipe import FEATURES, Recipe
from .steps import config_of
from .training_clips import load_results, training_clips


logger = logging.getLogger(__name__)

# Fields of the config that say how a model is trained; all others say what its weights mean.
_OF_TRAINING = {
    *("projection_dropout", "fusion_dropout", "sequence_dropout", "classifier_dropout", "modality_dropout"),
    *("alignment_loss_weight", "matching_loss_weight", "same_emotion_distance"),
    *("evaluation_negatives", "matching_needs_negative", "gather_with_gradient", "initializer_range"),
    *("freeze_vision_encoder", "freeze_audio_feature_encoder", "freeze_audio_encoder"),
}
# How much of a clip is read; all other fields of the processor say what a pixel or a sample means.
_OF_READING = {"frames_per_second", "max_seconds"}
# Licences that a derivative has to keep, by their ids on the Hub.
_SHARE_ALIKE = re.compile(r"-sa(-|$)")


class StartingPoint:
    """A checkpoint that a training starts from.

    Args:
        checkpoint (`str` or `pathlib.Path`): Folder or Hub name of a [`FoalNetForEmotionClassification`] with its
            processor, or `"foal-net-small"`.

    Raises:
        ValueError: If it cannot be loaded, is an export, or predicts something else than one class a clip.
        FileNotFoundError: As in [`~foal_hf.default_checkpoint.resolve_checkpoint`].
    """

    def __init__(self, checkpoint: str | Path) -> None:
        self.named, self.source = os.fspath(checkpoint), resolve_checkpoint(checkpoint)
        with errors_naming_checkpoint(self.source):
            self.config = FoalNetConfig.from_pretrained(self.source)
            self.processor = FoalNetProcessor.from_pretrained(self.source)
            self._weights = self._weight_files()
        if self.config.problem_type not in (None, "single_label_classification"):
            raise ValueError(
                f"{self.named} has `problem_type` {self.config.problem_type!r}; expected a checkpoint that predicts "
                "one class per clip."
            )
        self.results = load_results(self.source)
        labels = sorted((self.config.id2label or {}).items())
        self.labels = [] if is_headless(self.config) else [str(name) for _, name in labels]

    @classmethod
    def of(cls, checkpoint: "str | Path | StartingPoint | None") -> "StartingPoint | None":
        """None without a checkpoint; one that is a starting point already is not read again."""
        return checkpoint if checkpoint is None or isinstance(checkpoint, StartingPoint) else cls(checkpoint)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of its weights; if they are in several files, of theirs."""
        digests = [digest_of_file(path) for path in self._weights]
        return digests[0] if len(digests) == 1 else digest_of(digests)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run that starts from it depends on."""
        parts = without_provenance({"config": self.config.to_dict(), "processor": self.processor.to_dict()})
        return as_stored({"weights": self.fingerprint, **{name: digest_of(part) for name, part in parts.items()}})

    def describe(self, labels: Sequence[str], test_clips: str | None = None) -> Start:
        """It in the results file of a run with these labels."""
        before = self.results
        splits = before.splits if before else {}
        return Start(
            fingerprint=self.fingerprint,
            name=self.public_name,
            revision=next((part for part in self._weights[0].parts if REGEX_COMMIT_HASH.match(part)), None),
            license=self._license(),
            corpus=before.corpus if before else None,
            clip_ids=[clip for split in ("train", "validation") if split in splits for clip in splits[split].clip_ids],
            kept_labels=[label for label in labels if label in self.labels],
            new_labels=[label for label in labels if label not in self.labels],
            unused_labels=[label for label in self.labels if label not in labels],
            test_clips=test_clips,
            start=before.training.start if before and before.training else None,
        )

    @property
    def public_name(self) -> str | None:
        """Its name on the Hub; None for a folder."""
        return REPO_ID if self.named == DISTRIBUTION else public_name(self.named)

    @property
    def license_of_derivatives(self) -> str | None:
        """The licence that whatever is trained from it must have: its own if that is share-alike, else none is set."""
        license = self._license()
        return license if license is not None and _SHARE_ALIKE.search(license) else None

    def encoders(self) -> tuple[Encoder | None, Encoder | None]:
        """Its audio and its image encoder before any training, as far as that is known."""
        if self.results is not None and self.results.training is not None:
            return self.results.training.audio_encoder, self.results.training.vision_encoder
        audio, vision = (
            None if config is None else Encoder(public_name(config._name_or_path))
            for config in (self.config.audio_config, self.config.vision_config)
        )
        return audio, vision

    def check_test_clips(self, corpus: Any, rows: Sequence[int], about: Corpus) -> str:
        """What is known of test clips and their speakers among the clips that it was trained on.

        Args:
            corpus (`datasets.Dataset`): All clips.
            rows (`Sequence[int]`): The test clips.
            about ([`~foal_hf.results.Corpus`]): The corpus.

        Raises:
            ValueError: If some of them are, or may be under other ids: the results would not hold for other clips.
        """
        public = self.public_name or "the checkpoint that it started from"
        known, all_ids = training_clips(self.results, public), corpus["clip_id"]
        ids = [all_ids[row] for row in rows]
        same, other = known.overlap(ids, about.name)
        seen = None
        if same:
            seen = f"{len(same)} of these {len(ids)} test clips, such as {min(same)!r}"
        elif known.under_other_ids(all_ids, about.name):
            seen = f"clips of {about.name}, which its results file lists under other ids"
        else:
            of_corpus = known.overlap(all_ids, about.name)[0]
            speakers = {speaker for clip, speaker in zip(all_ids, corpus["speaker"], strict=True) if clip in of_corpus}
            shared = sorted(speakers & set(corpus.select(rows)["speaker"]) - {None})
            if shared:
                seen = f"{counted(len(shared), 'speaker')} of the test clips, such as {shared[0]!r}"
        if seen:
            raise ValueError(
                f"{self.named}, which the training would start from, was trained on {seen}, or chosen by them: the "
                "results would not hold for other clips. Test on clips and speakers that it does not know, or start "
                "from another checkpoint."
            )
        if known.unknown:
            words = f"{known.unknown}: it may have been trained on some of the test clips, and scores may be too high."
        elif other:
            words = (
                f"{len(other)} of {len(ids)} test clips have the ids of training clips of {public}, from another "
                "corpus. If they are the same clips, the scores are too high."
            )
        else:
            return "According to the results files, it was trained neither on the test clips nor on their speakers."
        logger.warning(words)
        return words

    def make_model(
        self,
        recipe: Recipe,
        labels: Sequence[str],
        *,
        generated: bool = False,
        feature_widths: Mapping[str, int] | None = None,
    ) -> FoalNetForEmotionClassification:
        """The model before training: its weights, with the losses and dropouts of the recipe, and these labels.

        Labels that it has keep their rows of the classifier; the rows of others come from torch's global random
        generator. Its calibration temperature, which is that of other clips, is not kept.

        Args:
            recipe, labels, generated, feature_widths: As in [`~foal_hf.experiments.assembly.make_model`].

        Raises:
            ValueError: If the recipe or the features of the corpus contradict it.
        """
        self._check(recipe, feature_widths or {})
        fields = {**recipe.config, "calibration_temperature": None, "trained_on_generated_data": generated}
        with errors_naming_checkpoint(self.source):
            model: Any = FoalNetForEmotionClassification.from_pretrained(self.source, dtype=torch.float32, **fields)
        about = self.describe(labels)
        if about.new_labels or about.unused_labels or labels != self.labels:
            model.classifier = self._classifier(model, labels)
            model.config.id2label = dict(enumerate(labels))
            model.config.label2id = {label: index for index, label in enumerate(labels)}
            model.num_labels = len(labels)
        logger.warning(
            "Starting from %s (weights %s). Labels kept: %s; new: %s; not used: %s.",
            *(self.named, self.fingerprint[:12]),
            *(", ".join(each) or "none" for each in (about.kept_labels, about.new_labels, about.unused_labels)),
        )
        return model

    def _classifier(self, model: Any, labels: Sequence[str]) -> nn.Linear:
        before = model.classifier
        classifier = nn.Linear(before.in_features, len(labels))
        nn.init.normal_(classifier.weight, std=model.config.initializer_range)
        nn.init.zeros_(classifier.bias)
        with torch.no_grad():
            for index, label in enumerate(labels):
                if label in self.labels:
                    classifier.weight[index] = before.weight[self.labels.index(label)]
                    classifier.bias[index] = before.bias[self.labels.index(label)]
        return classifier.to(before.weight.device)

    def _check(self, recipe: Recipe, feature_widths: Mapping[str, int]) -> None:
        """Raise `ValueError` if a recipe or features say something else than the checkpoint."""
        differences = []
        for side in ("audio", "video"):
            own, width = getattr(self.config, f"{side}_feature_dim"), feature_widths.get(side)
            if own != width:
                kinds = [f"{side} features of width {each}" if each else f"{side} itself" for each in (own, width)]
                differences.append(f"it takes {kinds[0]}, the corpus has {kinds[1]}")
        is_named = recipe.architecture is not None or any(recipe.encoder_names())
        if is_named and FEATURES not in (recipe.audio_encoder, recipe.vision_encoder):
            theirs = config_of(recipe)
            for side, part in (("audio", "audio_config"), ("video", "vision_config")):
                kinds = [
                    f"a {getattr(each, part).model_type} of width {getattr(each, f'{side}_width')}"
                    for each in (self.config, theirs)
                    if getattr(each, part) is not None
                ]
                if len(set(kinds)) == 2:
                    differences.append(f"its {side} encoder is {kinds[0]}, the recipe's {kinds[1]}")
        for name, value in recipe.config.items():
            own = getattr(self.config, name)
            if name not in _OF_TRAINING and own != value:
                differences.append(f"its {name} is {own}, the recipe's {value}")
        for name, own, value in self._read_otherwise(recipe):
            if name not in _OF_READING:
                differences.append(f"its processor has {name} {own}, the recipe {value}")
            else:
                logger.warning("%s reads %s %s, and this run reads %s.", self.named, name, own, value)
        if differences:
            raise ValueError(
                f"The recipe {recipe.name} does not fit {self.named}, which the training would start from: "
                f"{'; '.join(differences)}. Remove these settings from the recipe, or train without a checkpoint."
            )

    def _read_otherwise(self, recipe: Recipe) -> list[tuple[str, Any, Any]]:
        """Settings of the processor where the recipe has another value: name, that of the checkpoint, the recipe's."""
        extractor, video = self.processor.feature_extractor, self.processor.video_processor
        settings = dict(recipe.processor)
        if settings.get("normalize_waveform") is None:  # left to the feature extractor
            settings.pop("normalize_waveform", None)
        own = {} if video is None else as_stored(video.to_dict())
        own = {name: own[name] if name in own else getattr(video, name, None) for name in settings}
        if "normalize_waveform" in settings:
            own["normalize_waveform"] = getattr(extractor, "do_normalize", None)
        return [(name, own[name], value) for name, value in settings.items() if own[name] != value]

    def _license(self) -> str | None:
        if self.results is not None and self.results.license is not None:
            return self.results.license
        path = cached_file(self.source, CARD_NAME, _raise_exceptions_for_missing_entries=False)
        license = None if path is None else ModelCard.load(path, ignore_metadata_errors=True).data.license
        return license if isinstance(license, str) else None

    def _weight_files(self) -> list[Path]:
        whole = cached_file(self.source, SAFE_WEIGHTS_NAME, _raise_exceptions_for_missing_entries=False)
        if whole is not None:
            return [Path(whole)]
        index = cached_file(self.source, SAFE_WEIGHTS_INDEX_NAME, _raise_exceptions_for_missing_entries=False)
        if index is None:
            raise ValueError(
                f"it has no {SAFE_WEIGHTS_NAME}. Graphs of `foal-hf export` cannot be trained, and adapters only once "
                "they are merged into a model."
            )
        names = sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()))
        return [Path(str(cached_file(self.source, name))) for name in names]


__all__ = ["StartingPoint"]
