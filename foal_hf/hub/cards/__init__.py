"""The model card: a Jinja template, filled from the config of a checkpoint and the results file of its run.

What neither file records is omitted, or reported as unknown.
"""

import json
import re
from typing import Any

from huggingface_hub.utils import validate_repo_id
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from transformers import PreTrainedConfig

from ...foal_net.configuration_foal_net import FoalNetConfig
from ...foal_net.recordings_foal_net import features_taken
from ...resources import model_cards_dir
from ...results import METRIC_NAMES, Corpus, Encoder, Evaluation, Results, Training
from .markdown import cell, condition_words, counted, enumerated, named_versions, percent, score_words, sentence
from .metadata import card_metadata, encoder_names, encoder_of, is_generated
from .parameters import count_parameters, is_headless
from .reading import CHOSEN_BY, REFITTED, explain_scores
from .starts import label_words, start_words


TEMPLATE_NAME = "model_card.md"

_MADE_BY = "<!-- Made by foal_hf"
_LICENCE_UNKNOWN = "licence not recorded here; check it before you pass the weights on"


def model_card(
    config: FoalNetConfig,
    results: Results | None = None,
    *,
    repo_id: str | None = None,
    num_parameters: tuple[int, int] | None = None,
) -> str:
    """Make the card of a checkpoint.

    Args:
        config ([`FoalNetConfig`]): Of the checkpoint.
        results ([`~foal_hf.results.Results`], *optional*): Of its run. Without it the card reports that nothing was
            measured.
        repo_id (`str`, *optional*): Its repository on the Hub, `"org/name"`, which the examples in the card load.
            Without it they load `"."`, the folder of the card.
        num_parameters (`tuple[int, int]`, *optional*): All and trainable parameters, if the checkpoint has more than
            its config describes, such as adapters. Counted from the config by default.

    Returns:
        `str`: Markdown with a YAML header, for `README.md` of a model repository. It has three blocks of Python that
        run as they are: the pipeline, the pipeline with the checkpoint's own code, and the model's embeddings.

    Raises:
        ValueError: If the results have other labels or hold a local path, or `repo_id` is not a valid name.

    Example:

    ```python
    >>> from foal_hf import FoalNetConfig
    >>> from foal_hf.hub.cards import model_card

    >>> card = model_card(FoalNetConfig(), repo_id="org/foal-net")
    >>> "Nothing was measured" in card
    True
    ```
    """
    if repo_id is not None:
        validate_repo_id(repo_id)
    labels = [str(name) for _, name in sorted((config.id2label or {}).items())]
    if results is not None:
        results.check_publishable()
        if results.labels != labels:
            raise ValueError(
                f"The results have the labels {results.labels}, and this checkpoint has {labels}. Pass the results "
                "file of its own run."
            )
    names = encoder_names(config, results)
    taken = features_taken(config)
    sources = {side: f"{side}_features" if side in taken else side for side in ("audio", "video")}
    files = {name: f"clip-{side}.npy" if side in taken else "clip.mp4" for side, name in sources.items()}
    keywords = ", ".join(f'{name}="{file}"' for name, file in files.items())
    parameters = count_parameters(config)
    parameters["all"] = num_parameters or parameters["all"]
    card = _template().render(
        config=config,
        results=results,
        main=results.main_condition if results else None,
        metadata=card_metadata(config, results, model_name=repo_id or "Foal-Net"),
        generated=is_generated(config, results),
        headless=is_headless(config),
        checkpoint=repo_id or ".",
        taken=taken,
        example=json.dumps({_as_row(name): file for name, file in files.items()}) if taken else '"clip.mp4"',
        prepared=f".batch([processor.read({keywords})])"
        if taken
        else '(videos=["clip.mp4"], load_audio_from_video=True)',
        labels=labels,
        merged={label: results.merged_classes.get(label, []) if results else [] for label in labels},
        parameters=parameters,
        descriptions={
            "audio encoder": _describe_encoder(config, "audio", config.audio_config, names[0]),
            "image encoder": _describe_encoder(config, "video", config.vision_config, names[1]),
            "alignment, fusion and heads": f"aligned embeddings of width {config.projection_dim}; in each direction "
            f"{counted(config.num_fusion_layers, 'layer')} of {counted(config.num_fusion_heads, 'head')}",
            "all": "",
        },
        encoders=[
            {"part": "image" if part == "vision" else part, "name": name, "recorded": encoder_of(results, part)}
            for part, name in zip(("audio", "vision"), names, strict=True)
        ],
        training_facts=_training_facts(results) if results else {},
        chosen=_how_chosen(results) if results else "",
        starts=results.training.start.chain if results and results.training and results.training.start else [],
        chosen_on_test=results is not None and results.selection == "test-best-epoch",
        explanation=explain_scores(results.conditions) if results else "",
        has_groups=results is not None and any(test.groups for test in results.conditions.values()),
    )
    return re.sub(r"\n{3,}", "\n\n", card)


def is_made_card(text: str) -> bool:
    """Whether a card was made by [`model_card`] and its mark is still there: such a card may be made again.

    Args:
        text (`str`): A card.
    """
    return _MADE_BY in text


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(model_cards_dir()),
        undefined=StrictUndefined,
        autoescape=False,  # it is Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: "" if value is None else value,
    )
    environment.filters |= {
        "cell": cell,
        "condition": condition_words,
        "counted": counted,
        "enumerated": enumerated,
        "percent": percent,
        "score": score_words,
        "start": start_words,
        "start_labels": label_words,
        "sentence": sentence,
        "versions": named_versions,
    }
    environment.globals |= {"metrics": METRIC_NAMES, "scores_row": _scores_row, "licence": _licence_words}
    return environment.get_template(TEMPLATE_NAME)


def _as_row(name: str) -> str:
    """The key of a row for a file of features, or for media."""
    return f"{name}_file" if name.endswith("_features") else name


def _describe_encoder(
    config: FoalNetConfig, side: str, encoder_config: PreTrainedConfig | None, name: str | None
) -> str:
    if encoder_config is None:
        return f"none: takes {cell(config.describe_features(side))}"
    width = getattr(config, f"{side}_width")
    origin = f" from `{name}`" if name else ""
    num_layers = getattr(encoder_config, "num_hidden_layers", None)  # ResNet and others count stages and blocks
    layers = f"{counted(num_layers, 'layer')}, " if num_layers else ""
    kept = config.audio_layers if side == "audio" else "last"
    which = {"last": "output", "all": "learned sum of all layers,"}.get(kept if isinstance(kept, str) else "")
    which = which or f"learned sum of layers {kept[0]} to {kept[1]},"
    return f"{encoder_config.model_type}{origin}: {layers}{which} of width {width}"


def _training_facts(results: Results) -> dict[str, Any]:
    training = results.training or Training()
    return {
        "recipe": training.recipe and f"`{training.recipe}`",
        "epochs": training.num_epochs and f"{training.num_epochs:g}",
        "batch": training.batch_size and counted(training.batch_size, "clip"),
        "learning rate": training.learning_rate and f"{training.learning_rate:g}",
        "schedule": training.schedule,
        "optimiser": training.optimizer,
        "precision": training.precision,
        "frames per second": training.frames_per_second and f"{training.frames_per_second:g}",
        "longest window": training.max_seconds and f"{training.max_seconds:g} s",
        "time": training.seconds and f"{training.seconds:,.0f} s",
        "hardware": training.hardware,
        "seed" if len(results.seeds) == 1 else "seeds": results.seeds and enumerated(map(str, results.seeds)),
        "versions": named_versions(results.versions),
    }


def _how_chosen(results: Results) -> str:
    words = (REFITTED if results.protocol.refitted else "") + CHOSEN_BY[results.selection]
    if results.selected_epoch is None:
        return words
    score = results.selection_score
    reason = f", with a UA of {percent(score)} on the clips used for the choice" if score is not None else ""
    return f"{words} Chosen: epoch {results.selected_epoch:g}{reason}."


def _scores_row(name: str, test: Evaluation) -> str:
    scores = " | ".join(score_words(getattr(test, metric)) for metric in METRIC_NAMES)
    return f"| {cell(name)} | {scores} | {test.num_clips:,} |"


def _licence_words(owner: Corpus | Encoder | None) -> str:
    words = (owner and owner.license) or _LICENCE_UNKNOWN
    return f"{sentence(words)} {sentence(owner.duty)}" if owner and owner.duty else words


__all__ = ["count_parameters", "is_made_card", "model_card"]
