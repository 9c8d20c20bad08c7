"""The page of the Space: choose a metric, enter predictions and references, get the value.

evaluate's own page needs a Gradio older than 4.
"""
# mypy: disable-error-code="import-not-found"

import json
from pathlib import Path
from typing import Any

import evaluate
import gradio


FOLDER = Path(__file__).resolve().parent
CONFIGS = (
    "unweighted_accuracy",
    "weighted_accuracy",
    "macro_f1",
    "per_class_recall",
    "expected_calibration_error",
)


def compute(metric: str, predictions: str, references: str, labels: str) -> dict[str, Any]:
    """Compute a metric of lists that are written as JSON."""
    try:
        lists = {"predictions": json.loads(predictions), "references": json.loads(references)}
        module = evaluate.load(str(FOLDER / "emotion_classification.py"), metric)
        return module.compute(**lists, labels=json.loads(labels) if labels.strip() else None)
    except (ValueError, TypeError, IndexError) as error:
        raise gradio.Error(str(error)) from error


page = gradio.Interface(
    compute,
    inputs=[
        gradio.Dropdown(CONFIGS, value=CONFIGS[0], label="metric"),
        gradio.Textbox(label="predictions", placeholder="[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]"),
        gradio.Textbox(label="references", placeholder="[0, 1]"),
        gradio.Textbox(label="labels (optional)", placeholder='["happy", "sad", "angry"]'),
    ],
    outputs=gradio.JSON(label="result"),
    title="Emotion classification metrics",
    article=(FOLDER / "README.md").read_text(encoding="utf-8").split("---", 2)[-1],
    flagging_mode="never",
)

if __name__ == "__main__":
    page.launch()
