"""Facts about a corpus for results files and cards, and published results on it."""

from collections.abc import Sequence

from huggingface_hub import DatasetCard

from ..resources import dataset_scripts_dir
from ..results import Corpus, Selection


PUBLISHED_ON_IEMOCAP = {
    "video alone": (0.4790, 0.4661),
    "audio alone": (0.7768, 0.7725),
    "fusion": (0.7785, 0.7731),
    "fusion + AVEL": (0.7931, 0.7820),
    "fusion + MEM": (0.7810, 0.7694),
    "Foal-Net": (0.8010, 0.7945),
}
"""UA and WA of the paper, in [0, 1], by row of [`~foal_hf.experiments.ablation.VARIANTS`]: the mean over the five
sessions, each held out once, with the best epoch chosen on it (Li et al., Interspeech 2024, tables 2 and 3)."""

PUBLISHED_CLIPS = 5531
"""Number of IEMOCAP clips in the published results, over the five sessions."""

PUBLISHED_ON_CREMA_D = {"Foal-Net": (0.8491, 0.8489)}
"""UA and WA of HiCMAE-B, another method, in [0, 1]: six emotions from audio and video, the mean over the five folds of
the option `folds="published"` (Sun et al., Information Fusion 108, 2024, table 6)."""

_IEMOCAP = "IEMOCAP"
_IEMOCAP_LABELS = {"happy", "neutral", "sad", "angry"}
_CREMA_D = "CREMA-D"
_CREMA_D_LABELS = {"angry", "disgust", "fear", "happy", "neutral", "sad"}
# The three corpora that have a script are all acted, and in English, according to their cards.
_URLS = {
    "iemocap": "https://sail.usc.edu/iemocap/",
    "crema_d": "https://github.com/CheyneyComputerScience/CREMA-D",
    "ravdess": "https://zenodo.org/records/1188976",
}


def describe_corpus(name: str, *, generated: bool | None = None) -> Corpus:
    """The description of a corpus for a results file.

    Args:
        name (`str`): As in [`~foal_hf.corpora.load_corpus`].
        generated (`bool`, *optional*): For your own folder: whether its voices or faces are generated.

    Returns:
        [`~foal_hf.results.Corpus`]: For a folder, little more than its kind.
    """
    card_path = dataset_scripts_dir() / name / "README.md"
    if not card_path.is_file():
        return Corpus(name=f"{name} corpus", generated=generated)
    card = DatasetCard.load(card_path).data
    return Corpus(
        name=str(card.get("pretty_name", name)),
        url=_URLS.get(name),
        license=card.get("license_name") or card.get("license"),
        languages=list(card.get("language") or []),
        generated=False,
        acted=True if name in _URLS else None,
    )


def merged_classes(about: Corpus, labels: Sequence[str]) -> dict[str, list[str]]:
    """Other classes of a corpus that count as one of the labels."""
    return {"happy": ["excited"]} if _is_four_class_iemocap(about, labels) else {}


def published_scores(about: Corpus, labels: Sequence[str], variant: str = "Foal-Net") -> dict[str, float]:
    """Published results on the same corpus and classes: on IEMOCAP those of the paper.

    Args:
        about ([`~foal_hf.results.Corpus`]): The corpus.
        labels (`Sequence[str]`): The classes.
        variant (`str`): One of [`~foal_hf.experiments.ablation.VARIANTS`].

    Returns:
        `dict[str, float]`: `unweighted_accuracy` and `weighted_accuracy`, in [0, 1]; empty if there are none.
    """
    scores = None
    if _is_four_class_iemocap(about, labels):
        scores = PUBLISHED_ON_IEMOCAP.get(variant)
    elif about.name == _CREMA_D and set(labels) == _CREMA_D_LABELS:
        scores = PUBLISHED_ON_CREMA_D.get(variant)
    if scores is None:
        return {}
    return {"unweighted_accuracy": scores[0], "weighted_accuracy": scores[1]}


def how_published(about: Corpus, what: str, selection: Selection) -> tuple[str, int]:
    """Whose the published results are and how their epoch was chosen, in words; and their number of clips.

    Args:
        about ([`~foal_hf.results.Corpus`]): One that [`published_scores`] knows.
        what (`str`): The rows that are compared.
        selection (`str`): How the epoch was chosen here.
    """
    if about.name == _CREMA_D:
        words = (
            "Published: HiCMAE-B of Sun et al., Information Fusion 108, 2024, another method, pretrained on VoxCeleb2"
        )
        return f"{words}; its lists of clips have no validation split.", 7438
    words = f"Published: {what} of Li et al., Interspeech 2024, with the epoch chosen on the held-out session"
    as_here = ", as here." if selection == "test-best-epoch" else ", which makes it too good; here it was not."
    return words + as_here, PUBLISHED_CLIPS


def _is_four_class_iemocap(about: Corpus, labels: Sequence[str]) -> bool:
    return about.name == _IEMOCAP and set(labels) == _IEMOCAP_LABELS


__all__ = [
    "PUBLISHED_CLIPS",
    "PUBLISHED_ON_CREMA_D",
    "PUBLISHED_ON_IEMOCAP",
    "describe_corpus",
    "how_published",
    "merged_classes",
    "published_scores",
]
