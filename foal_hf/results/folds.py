"""One run of a cross-validation: training on the other folds, test on this one."""

from dataclasses import dataclass, field

from .evaluation import Evaluation
from .provenance import Split
from .typed_json import JsonRecord


@dataclass(frozen=True)
class FoldResult(JsonRecord):
    """Results of one run of a cross-validation.

    Args:
        held_out (`str`): Session or speaker of the test split.
        seed (`int`): Of this run.
        conditions (`dict[str, Evaluation]`): As in [`~foal_hf.results.Results`], on this fold's test split.
        splits (`dict[str, Split]`): Likewise, with the ids of the clips.
        selected_epoch, selection_score (`float`, *optional*): Likewise.
    """

    held_out: str
    seed: int
    conditions: dict[str, Evaluation]
    splits: dict[str, Split] = field(default_factory=dict)
    selected_epoch: float | None = None
    selection_score: float | None = None


__all__ = ["FoldResult"]
