"""The model card: one template, filled from the config of a checkpoint and the results file of its run.

Nothing is written by hand and nothing is invented: what neither file knows is left out, or said to be unknown.
"""

import re
from string import Template

from huggingface_hub.utils import validate_repo_id

from ...foal_net.configuration_foal_net import FoalNetConfig
from ...resources import model_cards_dir
from ...results import Results
from .markdown import counted, enumerated
from .measurements import input_words, latency_section, results_section, score_words
from .metadata import card_metadata, is_generated
from .parameters import count_parameters, is_headless
from .sections import (
    architecture_section,
    label_names,
    labels_section,
    licences_section,
    limits_section,
    training_section,
)


TEMPLATE_NAME = "model_card.md"

_MADE_BY = "<!-- Made by foal_hf"
_GENERATED_WARNING = (
    "> **Its labels mean nothing on real people.** This checkpoint was trained on generated clips, to show that the "
    "software works. It has never seen or heard a person."
)
_NOT_ON_PEOPLE = "Do not use this checkpoint on people at all: it knows generated clips only."
_HEADLESS_NOTE = (
    "> This checkpoint has no classifier. Only the last of these examples works with it; the pipeline would begin with "
    "random weights."
)


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
        results ([`~foal_hf.results.Results`], *optional*): Of its run. Without it the card says that nothing was
            measured.
        repo_id (`str`, *optional*): Where it goes on the Hub, `"org/name"`: what the examples in the card load. Without
            it they load `"."`, the folder that the card lies in.
        num_parameters (`tuple[int, int]`, *optional*): All, and those that are trained, where the checkpoint holds more
            than its config describes, such as adapters; counted from the config by default.

    Returns:
        `str`: Markdown with a YAML header, as `README.md` of a model repository. It has three blocks of Python, which
        run as they stand: the pipeline, the pipeline with the checkpoint's own code, and the model's embeddings.

    Raises:
        ValueError: If the results are those of other labels, or hold a path of this machine, or `repo_id` is no name.

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
    if results is not None:
        _check_fits(results, config)
    template = Template((model_cards_dir() / TEMPLATE_NAME).read_text(encoding="utf-8"))
    generated = is_generated(config, results)
    card = template.substitute(
        metadata=card_metadata(config, results, model_name=repo_id or "Foal-Net"),
        title=_title(results, generated),
        warning=_GENERATED_WARNING if generated else "",
        summary=_summary(config, results),
        headless_note=_HEADLESS_NOTE if is_headless(config) else "",
        checkpoint=repo_id or ".",
        labels=labels_section(config, results),
        architecture=architecture_section(config, results, num_parameters),
        training=training_section(config, results),
        results=results_section(results),
        latency=latency_section(results),
        limits=limits_section(results, generated),
        generated_use=_NOT_ON_PEOPLE if generated else "",
        licences=licences_section(config, results),
    )
    return re.sub(r"\n{3,}", "\n\n", card)


def is_made_card(text: str) -> bool:
    """Whether a card was made by [`model_card`] and its mark is still there: such a card may be made again.

    Args:
        text (`str`): A card.
    """
    return _MADE_BY in text


def _check_fits(results: Results, config: FoalNetConfig) -> None:
    results.check_publishable()
    labels = label_names(config)
    if results.labels != labels:
        raise ValueError(
            f"The results are of a model with the labels {results.labels}, and this checkpoint has {labels}. Give the "
            "results file of its own run."
        )


def _title(results: Results | None, generated: bool) -> str:
    if results:
        return f"Foal-Net, trained on {results.corpus.name}"
    return "Foal-Net, trained on generated clips" if generated else "Foal-Net"


def _summary(config: FoalNetConfig, results: Results | None) -> str:
    if is_headless(config):
        return "Gives aligned embeddings of the sound and the picture of a speaking person, and fuses them."
    summary = (
        f"Names the emotion of a speaking person, as one of {enumerated(label_names(config))}, from the sound and the "
        "picture of a clip, or from one of them."
    )
    if results and results.main_condition:
        test = results.conditions[results.main_condition]
        summary += (
            f" From {input_words(results.main_condition)} of {counted(test.num_clips, 'held-out clip')} its UA is "
            f"{score_words(test.unweighted_accuracy)}."
        )
        if results.selection == "test-best-epoch":
            summary += " The checkpoint was chosen on those very clips, so that number is too good."
    return summary


__all__ = ["count_parameters", "is_made_card", "model_card"]
