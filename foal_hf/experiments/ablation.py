"""The paper's ablation table: what picture, sound, fusion and the two auxiliary tasks bring.

    output/
      features/                stored features, shared by all rows of the table
      video-alone/ ...         a cross-validation each, see cross_validation.py
      ablation.md, ablation.json

All rows see the same clips in the same folds; they differ in what the model looks at and in its losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..results import METRIC_NAMES, Corpus, Results, Selection
from .checks import check_corpus
from .clips import BOTH
from .cross_validation import cross_validate
from .naming import as_file_name
from .recipe import Recipe
from .records import write_json
from .reports import ablation_report


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
        without = {name: 0.0 for name, is_on in tasks.items() if not is_on}
        if self.modalities != BOTH:
            without["modality_dropout"] = 0.0  # there is nothing to do without
        return recipe.with_settings(without)


VARIANTS = {
    "video alone": Variant(("video",)),
    "audio alone": Variant(("audio",)),
    "fusion": Variant(),
    "fusion + AVEL": Variant(alignment=True),
    "fusion + MEM": Variant(matching=True),
    "Foal-Net": Variant(alignment=True, matching=True),
}
"""The rows of the paper's table, by name. The last has both tasks."""


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
) -> dict[str, Results]:
    """Cross-validate every row of the table. Interrupted, it goes on where it was.

    Args:
        recipe, corpus, about, by, select, seeds, held_out: As in [`cross_validate`].
        output_dir (`str` or `pathlib.Path`): Gets a folder for each row, `ablation.md` and `ablation.json`.
        store_dir (`str` or `pathlib.Path`, *optional*): As there; shared by all rows.
        variants (`Sequence[str]`, *optional*): Only these rows.

    Returns:
        `dict[str, Results]`: By name of the row.

    Raises:
        ValueError: If there is no such row, the recipe leaves a task out that the table is about, or as in
            [`cross_validate`].
    """
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown or not variants:
        raise ValueError(f"The table has no row {', '.join(unknown)}; it has {', '.join(VARIANTS)}.")
    for task in ("alignment_loss_weight", "matching_loss_weight"):
        if recipe.config.get(task) == 0:
            raise ValueError(f"The recipe sets `{task}` to 0, and the table is about what that task brings.")
    labels, output = check_corpus(corpus), Path(output_dir)
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
        )
        for name in VARIANTS
        if name in variants
    }
    if PartialState().is_main_process:
        (output / "ablation.md").write_text(ablation_report(rows), encoding="utf-8")
        write_json(output / "ablation.json", {"labels": labels, "rows": {name: _scores(rows[name]) for name in rows}})
    return rows


def _scores(results: Results) -> dict[str, Any]:
    test = results.conditions[results.main_condition or ""]
    return {metric: {**vars(getattr(test, metric))} for metric in METRIC_NAMES}


__all__ = ["VARIANTS", "Variant", "ablate"]
