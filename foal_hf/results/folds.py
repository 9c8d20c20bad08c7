"""One fold of a cross-validation: a training with its test."""

from dataclasses import dataclass, field

from .evaluation import Evaluation
from .provenance import Split


@dataclass(frozen=True)
class FoldResult:
    """What one training of a cross-validation gave.

    Args:
        held_out (`str`): The session, or speaker, that it was tested on.
        seed (`int`): Of this run.
        conditions (`dict[str, Evaluation]`): As in [`~foal_hf.results.Results`], of this fold's test.
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
