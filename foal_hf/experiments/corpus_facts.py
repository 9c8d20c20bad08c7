"""What results files and cards say of a corpus, from its dataset card, and what others have published on it."""

from collections.abc import Sequence

from huggingface_hub import DatasetCard

from ..resources import dataset_scripts_dir
from ..results import Corpus


# Mean over the five sessions, each held out once and the best epoch chosen on it (Li et al., Interspeech 2024, table 2
# and 3), as shares: UA and WA. The names are those of foal_hf.experiments.ablation.
_PUBLISHED_ON_IEMOCAP = {
    "video alone": (0.4790, 0.4661),
    "audio alone": (0.7768, 0.7725),
    "fusion": (0.7785, 0.7731),
    "fusion + AVEL": (0.7931, 0.7820),
    "fusion + MEM": (0.7810, 0.7694),
    "Foal-Net": (0.8010, 0.7945),
}
PUBLISHED_CLIPS = 5531
"""Clips of IEMOCAP that the published numbers are of, over the five sessions."""

_IEMOCAP = "IEMOCAP"
_IEMOCAP_LABELS = {"happy", "neutral", "sad", "angry"}
# The three corpora that have a script are all acted, and in English, as their cards say.
_PLACES = {
    "iemocap": "https://sail.usc.edu/iemocap/",
    "crema_d": "https://github.com/CheyneyComputerScience/CREMA-D",
    "ravdess": "https://zenodo.org/records/1188976",
}


def describe_corpus(name: str, *, generated: bool | None = None) -> Corpus:
    """A corpus in the words of a results file.

    Args:
        name (`str`): As [`~foal_hf.corpora.load_corpus`] takes it.
        generated (`bool`, *optional*): Of a folder of one's own: whether voices or faces in it are generated.

    Returns:
        [`~foal_hf.results.Corpus`]: Of a folder little more than that it is one.
    """
    card_path = dataset_scripts_dir() / name / "README.md"
    if not card_path.is_file():
        return Corpus(name=f"{name} corpus", generated=generated)
    card = DatasetCard.load(card_path).data
    return Corpus(
        name=str(card.get("pretty_name", name)),
        url=_PLACES.get(name),
        license=card.get("license_name") or card.get("license"),
        languages=list(card.get("language") or []),
        generated=False,
        acted=True if name in _PLACES else None,
    )


def merged_classes(about: Corpus, labels: Sequence[str]) -> dict[str, list[str]]:
    """What else of a corpus counts as one of the labels."""
    return {"happy": ["excited"]} if _is_four_class_iemocap(about, labels) else {}


def published_scores(about: Corpus, labels: Sequence[str], variant: str = "Foal-Net") -> dict[str, float]:
    """What the paper reports on the same clips and classes.

    Args:
        about ([`~foal_hf.results.Corpus`]): The corpus.
        labels (`Sequence[str]`): The classes.
        variant (`str`): One of [`~foal_hf.experiments.ablation.VARIANTS`].

    Returns:
        `dict[str, float]`: `unweighted_accuracy` and `weighted_accuracy`, in [0, 1]; empty where there is nothing to
        compare with.
    """
    scores = _PUBLISHED_ON_IEMOCAP.get(variant)
    if scores is None or not _is_four_class_iemocap(about, labels):
        return {}
    return {"unweighted_accuracy": scores[0], "weighted_accuracy": scores[1]}


def _is_four_class_iemocap(about: Corpus, labels: Sequence[str]) -> bool:
    return about.name == _IEMOCAP and set(labels) == _IEMOCAP_LABELS


__all__ = ["PUBLISHED_CLIPS", "describe_corpus", "merged_classes", "published_scores"]
