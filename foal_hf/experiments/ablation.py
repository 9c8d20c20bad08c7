"""The paper's ablation table: video, audio, fusion and the two auxiliary losses.

    output/
      features/                stored features, shared by all rows of the table
      video-alone/ ...         one cross-validation per row, see cross_validation.py
      ablation.md, ablation.json

All rows use the same clips in the same folds. They differ in the modalities and the losses of the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..atomic_files import write_file, write_json
from ..results import METRIC_NAMES, Corpus, Results, Selection
from .checks import check_corpus
from .clips import BOTH
from .cross_validation import cross_validate
from .naming import as_file_name
from .recipe import Recipe
from .reports import ablation_report
from .starting_point import StartingPoint


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Args:
        modalities (`tuple[str, ...]`): What the model is trained and tested with.
        alignment, matching (`bool`): Whether it has AVEL and MEM, with the weights of the recipe.
    """

    modalities: tuple[str, ...] = BOTH
    alignment: bool = False
    matching: bool = False

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe with the losses of this variant."""
        tasks = {"alignment_loss_weight": self.alignment, "matching_loss_weight": self.matching}
        changes = {name: 0.0 for name, is_on in tasks.items() if not is_on}
        if self.modalities != BOTH:
            changes["modality_dropout"] = 0.0  # one modality cannot be dropped
        return recipe.with_settings(changes)


VARIANTS = {
    "video alone": Variant(("video",)),
    "audio alone": Variant(("audio",)),
    "fusion": Variant(),
    "fusion + AVEL": Variant(alignment=True),
    "fusion + MEM": Variant(matching=True),
    "Foal-Net": Variant(alignment=True, matching=True),
}
"""The rows of the paper's table, by name. The last has both losses."""


def ablate(
    recipe: Recipe,
    corpus: Any,
    output_dir: str | Path,
    *,
    about: Corpus,
    by: str = "session",
    select: Selection = "validation",
    seeds: Sequence[int] = (),
    held_out: Sequence[str] = (),
    store_dir: str | Path | None = None,
    variants: Sequence[str] = tuple(VARIANTS),
    init: str | Path | StartingPoint | None = None,
) -> dict[str, Results]:
    """Cross-validate every row of the table. An interrupted call continues.

    Args:
        recipe, corpus, about, by, select, seeds, held_out, init: As in [`cross_validate`].
        output_dir (`str` or `pathlib.Path`): Gets a folder for each row, `ablation.md` and `ablation.json`.
        store_dir (`str` or `pathlib.Path`, *optional*): As in [`cross_validate`]; shared by all rows.
        variants (`Sequence[str]`, *optional*): Only these rows.

    Returns:
        `dict[str, Results]`: By name of the row.

    Raises:
        ValueError: If a row is unknown, the recipe turns off a loss of the table, or as in [`cross_validate`].
    """
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown or not variants:
        raise ValueError(f"Unknown rows {', '.join(unknown) or '(none)'}; expected some of {', '.join(VARIANTS)}.")
    for task in ("alignment_loss_weight", "matching_loss_weight"):
        if recipe.config.get(task) == 0:
            raise ValueError(f"The recipe sets `{task}` to 0, but the table measures that loss. Remove the setting.")
    labels, output, start = check_corpus(corpus), Path(output_dir), StartingPoint.of(init)
    rows = {
        name: cross_validate(
            VARIANTS[name].of(recipe),
            corpus,
            output / as_file_name(name.lower()),
            about=about,
            by=by,
            select=select,
            seeds=seeds,
            held_out=held_out,
            modalities=VARIANTS[name].modalities,
            store_dir=output / "features" if store_dir is None else Path(store_dir),
            variant=name,
            init=start,
        )
        for name in VARIANTS
        if name in variants
    }
    if PartialState().is_main_process:
        write_file(output / "ablation.md", ablation_report(rows))
        write_json(output / "ablation.json", {"labels": labels, "rows": {name: _scores(rows[name]) for name in rows}})
    return rows


def _scores(results: Results) -> dict[str, Any]:
    test = results.conditions[results.main_condition or ""]
    return {metric: vars(getattr(test, metric)) for metric in METRIC_NAMES}


__all__ = ["VARIANTS", "Variant", "ablate"]
