"""The YAML header of a model card: what the Hub indexes, from the config and the results of a run."""

import re
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ...foal_net.configuration_foal_net import FoalNetConfig
from ...results import METRIC_NAMES, Encoder, Evaluation, Results, public_name


PIPELINE_TAG = "video-classification"
"""The task of the Hub that comes nearest: it has none for audio and video."""

# What the Hub calls the metrics. UA is the mean of the recalls, so recall with the macro average.
_HUB_METRICS: dict[str, tuple[str, dict[str, str]]] = {
    "unweighted_accuracy": ("recall", {"average": "macro"}),
    "weighted_accuracy": ("accuracy", {}),
    "macro_f1": ("f1", {"average": "macro"}),
}


def card_metadata(config: FoalNetConfig, results: Results | None, model_name: str) -> str:
    """The header of a card, as YAML without its `---` lines.

    Args:
        config ([`FoalNetConfig`]): Of the checkpoint.
        results ([`~foal_hf.results.Results`], *optional*): Of its run.
        model_name (`str`): What the results are listed under.

    Returns:
        `str`: In the form that `huggingface_hub.ModelCard` reads, evaluation results as `model-index`.
    """
    corpus = results.corpus if results else None
    tags = ["audio-video-emotion", "emotion-recognition", "multimodal"]
    if is_generated(config, results):
        tags.append("generated-data")
    evaluations = _evaluations(results) if results else []
    data = ModelCardData(
        license=results.license if results else None,
        language=(corpus.languages or None) if corpus else None,
        library_name="transformers",
        pipeline_tag=PIPELINE_TAG,
        tags=tags,
        base_model=_base_models(config, results),
        datasets=[each.hub_id for each in (corpus, *corpus.sources) if each.hub_id] or None if corpus else None,
        metrics=[name for name, _ in _HUB_METRICS.values()] if evaluations else None,
        eval_results=evaluations or None,
        model_name=model_name if evaluations else None,
    )
    return data.to_yaml()


def _base_models(config: FoalNetConfig, results: Results | None) -> list[str] | None:
    """What the weights started from: a checkpoint, or else the encoders; None where nothing of it is on the Hub."""
    start = results.training.start if results and results.training else None
    names = encoder_names(config, results) if start is None else (start.name,)
    return [name for name in names if name] or None


def is_generated(config: FoalNetConfig, results: Results | None) -> bool:
    """Whether a checkpoint was trained on generated clips only."""
    return config.trained_on_generated_data or bool(results and results.corpus.generated)


def encoder_names(config: FoalNetConfig, results: Results | None) -> tuple[str | None, str | None]:
    """Names of audio and image encoder on the Hub; None for a local folder, no weights or no encoder."""
    found = []
    for part in ("audio", "vision"):
        encoder = encoder_of(results, part)
        own_name = getattr(getattr(config, f"{part}_config"), "_name_or_path", None)
        name = own_name or (encoder.name if encoder else None)
        found.append(public_name(name))
    return found[0], found[1]


def encoder_of(results: Results | None, part: str) -> Encoder | None:
    """What the results say of the `"audio"` or the `"vision"` encoder."""
    return getattr(results.training, f"{part}_encoder") if results and results.training else None


def _evaluations(results: Results) -> list[EvalResult]:
    return [
        _evaluation(results, condition, evaluation, metric)
        for condition, evaluation in results.conditions.items()
        for metric in METRIC_NAMES
    ]


def _evaluation(results: Results, condition: str, evaluation: Evaluation, metric: str) -> EvalResult:
    score = getattr(evaluation, metric)
    hub_metric, arguments = _HUB_METRICS[metric]
    facts: dict[str, Any] = {
        **arguments,
        "input": condition,
        "protocol": results.protocol.key,
        "held_out": results.protocol.held_out,
        "checkpoint_chosen_by": results.selection,
        "standard_deviation": score.standard_deviation and round(score.standard_deviation, 4),
    }
    if score.interval and evaluation.bootstrap:
        facts["confidence_interval"] = [round(end, 4) for end in score.interval]
        facts["confidence"] = evaluation.bootstrap.confidence
        facts["clustered_by"] = evaluation.bootstrap.clustered_by
    return EvalResult(
        task_type=PIPELINE_TAG,
        task_name="Emotion recognition from audio and video",
        dataset_name=results.corpus.name,
        dataset_type=results.corpus.hub_id or re.sub(r"[^a-z0-9]+", "-", results.corpus.name.lower()).strip("-"),
        dataset_split="test",
        metric_type=hub_metric,
        metric_name=f"{METRIC_NAMES[metric]}, {condition}",
        metric_value=round(score.value, 4),
        metric_args={name: fact for name, fact in facts.items() if fact is not None},
    )


__all__ = ["PIPELINE_TAG", "card_metadata", "encoder_names", "encoder_of", "is_generated"]
