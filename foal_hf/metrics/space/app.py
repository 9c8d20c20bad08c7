"""The page of a metric's Space: lists of predictions and references in, the metric out.

It stands beside one metric's script and card. The page that evaluate itself offers needs a Gradio older than 4.
"""
# mypy: disable-error-code="import-not-found"

import json
from pathlib import Path
from typing import Any

import evaluate
import gradio


FOLDER = Path(__file__).resolve().parent
METRIC = evaluate.load(str(next(path for path in FOLDER.glob("*.py") if path.name != "app.py")))


def compute(predictions: str, references: str, labels: str) -> dict[str, Any]:
    """The metric of lists that are written as JSON."""
    try:
        lists = {"predictions": json.loads(predictions), "references": json.loads(references)}
        return METRIC.compute(**lists, labels=json.loads(labels) if labels.strip() else None)
    except (ValueError, TypeError, IndexError) as error:
        raise gradio.Error(str(error)) from error


page = gradio.Interface(
    compute,
    inputs=[
        gradio.Textbox(label="predictions", placeholder="[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]"),
        gradio.Textbox(label="references", placeholder="[0, 1]"),
        gradio.Textbox(label="labels (optional)", placeholder='["happy", "sad", "angry"]'),
    ],
    outputs=gradio.JSON(label=METRIC.name),
    title=METRIC.name.replace("_", " "),
    description=METRIC.description,
    article=(FOLDER / "README.md").read_text(encoding="utf-8").split("---", 2)[-1],
    flagging_mode="never",
)

if __name__ == "__main__":
    page.launch()
