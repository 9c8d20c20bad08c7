"""Which clips a checkpoint was trained on or chosen by, as its results file and those before it list them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import cached_file

from ..hub import RESULTS_NAME
from ..results import Corpus, Results
from ..training.record import UNNAMED_CORPUS


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingClips:
    """The clips of a checkpoint, and of all checkpoints that it started from.

    Args:
        of_corpora (`list[tuple[Corpus, frozenset[str]]]`): A corpus, and the ids of the clips.
        unknown (`str`, *optional*): In words, whose clips are not known; None if all are.
    """

    of_corpora: list[tuple[Corpus, frozenset[str]]]
    unknown: str | None = None

    @property
    def names(self) -> list[str]:
        """Of the corpora, with what each was put together from."""
        return [each.name for corpus, _ in self.of_corpora for each in (corpus, *corpus.sources)]

    def overlap(self, ids: Sequence[str], corpus: str) -> tuple[set[str], set[str]]:
        """Those of some clips that are among them: of the same corpus; and of the same id in another corpus."""
        clips = set(ids)
        same = {
            clip
            for about, known in self.of_corpora
            if {corpus, UNNAMED_CORPUS} & {about.name, *(source.name for source in about.sources)}
            for clip in known & clips
        }
        other = {clip for _, known in self.of_corpora for clip in known & clips} - same
        return same, other

    def under_other_ids(self, ids: Sequence[str], corpus: str) -> bool:
        """Whether it was trained on clips put together from a corpus, and none of them has an id of that corpus."""
        made_from = (known for about, known in self.of_corpora if corpus in {source.name for source in about.sources})
        return any(known.isdisjoint(ids) for known in made_from)


def load_results(checkpoint: str | Path) -> Results | None:
    """The results file of a checkpoint; None without one, and with a warning if it cannot be read."""
    path = cached_file(str(checkpoint), RESULTS_NAME, _raise_exceptions_for_missing_entries=False)
    try:
        return None if path is None else Results.load(path)
    except ValueError as error:
        logger.warning("The results file of the checkpoint cannot be read: %s", error)
        return None


def training_clips(results: Results | None, checkpoint: str | Path) -> TrainingClips:
    """The training and validation clips that a results file lists, with those of the checkpoints it started from.

    Args:
        results ([`~foal_hf.results.Results`], *optional*): From [`load_results`].
        checkpoint (`str` or `pathlib.Path`): Whose they are, for words.
    """
    splits = {} if results is None else results.splits
    own = frozenset(clip for name in ("train", "validation") if name in splits for clip in splits[name].clip_ids)
    if results is None or not own:
        return TrainingClips([], f"{checkpoint} has no {RESULTS_NAME} that lists its training clips")
    found, unknown = [(results.corpus, own)], None
    start = results.training.start if results.training else None
    for each in start.chain if start else ():
        if each.corpus is None or not each.clip_ids:
            unknown = f"{checkpoint} started from {each.name or 'a checkpoint'}, whose training clips are not known"
        else:
            found.append((each.corpus, frozenset(each.clip_ids)))
    return TrainingClips(found, unknown)


__all__ = ["TrainingClips", "load_results", "training_clips"]
