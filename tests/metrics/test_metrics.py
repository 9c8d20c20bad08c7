"""UA, WA and the rest, against values worked out by hand and against scikit-learn."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from transformers import EvalPrediction

from foal_hf.metrics import (
    _warn_of_absent_classes,
    absent_classes,
    compute_metrics,
    confusion_matrix,
    emotion_metrics,
    labelled_logits,
    macro_f1,
    per_class_recall,
    recalls_of_matrix,
    unweighted_accuracy,
    weighted_accuracy,
)


# Three clips of class 0, two of them right; one of class 1, right; two of class 3, one right; class 2 never occurs.
REFERENCES = [0, 0, 0, 1, 3, 3]
PREDICTIONS = [0, 0, 1, 1, 3, 0]


def random_classes(num_labels: int, num_clips: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unbalanced references in which every class occurs, and predictions that are right more often than by chance."""
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.ones(num_labels))
    drawn = generator.choice(num_labels, size=num_clips - num_labels, p=shares)
    references = np.concatenate([np.arange(num_labels), drawn])
    guesses = generator.integers(num_labels, size=num_clips)
    return references, np.where(generator.random(num_clips) < 0.6, references, guesses)


def evaluation_of(logits: object, labels: object) -> EvalPrediction:
    return EvalPrediction(predictions=logits, label_ids=labels)


def test_rows_of_the_confusion_matrix_are_the_truth() -> None:
    expected = [[2, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]
    assert confusion_matrix(REFERENCES, PREDICTIONS, num_labels=4).tolist() == expected


def test_metrics_are_the_hand_values() -> None:
    assert weighted_accuracy(REFERENCES, PREDICTIONS) == pytest.approx(4 / 6)
    assert unweighted_accuracy(REFERENCES, PREDICTIONS) == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert macro_f1(REFERENCES, PREDICTIONS) == pytest.approx((4 / 6 + 2 / 3 + 2 / 3) / 3)


@pytest.mark.parametrize(("num_labels", "num_clips"), [(2, 7), (4, 101), (7, 503)])
def test_metrics_agree_with_scikit_learn(num_labels: int, num_clips: int) -> None:
    references, predictions = random_classes(num_labels, num_clips, seed=num_clips)
    recalls = sklearn_metrics.recall_score(references, predictions, average=None)
    matrix = sklearn_metrics.confusion_matrix(references, predictions)

    assert confusion_matrix(references, predictions, num_labels).tolist() == matrix.tolist()
    np.testing.assert_allclose(per_class_recall(references, predictions, num_labels), recalls, rtol=1e-12)
    assert unweighted_accuracy(references, predictions) == pytest.approx(
        sklearn_metrics.recall_score(references, predictions, average="macro"), rel=1e-12
    )
    assert weighted_accuracy(references, predictions) == pytest.approx(
        sklearn_metrics.accuracy_score(references, predictions), rel=1e-12
    )
    assert macro_f1(references, predictions) == pytest.approx(
        sklearn_metrics.f1_score(references, predictions, average="macro"), rel=1e-12
    )


def test_a_class_that_is_never_true_does_not_lower_ua_but_f1_as_in_scikit_learn() -> None:
    references, predictions = [0, 0, 1, 1, 1], [0, 2, 1, 1, 0]
    assert unweighted_accuracy(references, predictions) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert macro_f1(references, predictions) == pytest.approx(
        sklearn_metrics.f1_score(references, predictions, average="macro")
    )
    assert macro_f1(references, predictions) < macro_f1(references, [0, 1, 1, 1, 0])


def test_absent_classes_are_named_and_have_no_recall() -> None:
    assert absent_classes(REFERENCES, num_labels=5) == [2, 4]
    recalls = per_class_recall(REFERENCES, PREDICTIONS, num_labels=5)
    assert np.flatnonzero(np.isnan(recalls)).tolist() == [2, 4]
    assert recalls_of_matrix(confusion_matrix(REFERENCES, PREDICTIONS, 5))[0] == pytest.approx(2 / 3)


def test_ua_and_wa_differ_where_classes_are_unbalanced() -> None:
    always_the_large_class = [0] * 10
    references = [0] * 9 + [1]
    assert weighted_accuracy(references, always_the_large_class) == pytest.approx(0.9)
    assert unweighted_accuracy(references, always_the_large_class) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda values: np.array(values, dtype=np.uint8)])
def test_lists_arrays_and_tensors_are_taken(kind: type) -> None:
    # With 17 classes a cell's number passes 255, so a matrix counted in uint8 would be wrong.
    matrix = confusion_matrix(kind([16, 16, 3]), kind([16, 3, 3]), num_labels=17)
    assert matrix[16, 16] == matrix[16, 3] == matrix[3, 3] == 1
    assert matrix.sum() == 3


def test_emotion_metrics_speak_of_emotions_by_name() -> None:
    metrics = emotion_metrics(REFERENCES, PREDICTIONS, ["happy", "neutral", "sad", "angry"])
    assert metrics["per_class_recall"] == {
        "happy": pytest.approx(2 / 3),
        "neutral": 1.0,
        "sad": None,
        "angry": 0.5,
    }
    assert metrics["absent_classes"] == ["sad"]
    assert metrics["num_clips"] == 6
    assert metrics["unweighted_accuracy"] == unweighted_accuracy(REFERENCES, PREDICTIONS)
    assert metrics["weighted_accuracy"] == weighted_accuracy(REFERENCES, PREDICTIONS)
    assert metrics["macro_f1"] == macro_f1(REFERENCES, PREDICTIONS)
    assert metrics["confusion_matrix"] == confusion_matrix(REFERENCES, PREDICTIONS, 4).tolist()


def test_emotion_metrics_are_strict_json() -> None:
    metrics = emotion_metrics(REFERENCES, PREDICTIONS, ["happy", "neutral", "sad", "angry"])
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_compute_metrics_takes_logits_alone_and_at_the_head_of_a_tuple() -> None:
    logits = np.eye(4)[PREDICTIONS] * 3 - 1
    expected = {
        "unweighted_accuracy": unweighted_accuracy(REFERENCES, PREDICTIONS),
        "weighted_accuracy": weighted_accuracy(REFERENCES, PREDICTIONS),
    }
    labels = np.array(REFERENCES)
    assert compute_metrics(evaluation_of(logits, labels)) == expected
    assert compute_metrics(evaluation_of((logits, np.zeros((6, 11))), labels)) == expected


def test_compute_metrics_leaves_out_clips_without_a_label() -> None:
    logits = np.eye(4)[[*PREDICTIONS, 2, 2]]
    logits[-1] = np.nan  # and what the model says of them does not matter
    metrics = compute_metrics(evaluation_of(logits, np.array([*REFERENCES, -100, -100])))
    assert metrics["weighted_accuracy"] == weighted_accuracy(REFERENCES, PREDICTIONS)


def test_compute_metrics_names_a_class_without_clips_once(caplog: pytest.LogCaptureFixture) -> None:
    _warn_of_absent_classes.cache_clear()
    for _ in range(2):  # epochs
        compute_metrics(evaluation_of(np.eye(5)[PREDICTIONS], np.array(REFERENCES)))
    assert caplog.messages == [
        "No clip belongs to class 2, 4 of the 5: unweighted_accuracy is the mean recall of the other 3."
    ]
    compute_metrics(evaluation_of(np.eye(3), np.arange(3)))
    assert len(caplog.messages) == 1


def test_labelled_logits_are_those_of_clips_with_a_label() -> None:
    logits = np.arange(6.0).reshape(3, 2)
    kept, labels = labelled_logits(evaluation_of((logits, None), np.array([1, -100, 0])))
    assert kept.tolist() == [[0, 1], [4, 5]] and labels.tolist() == [1, 0]


def test_compute_metrics_refuses_a_model_that_diverged() -> None:
    logits = np.eye(4)[PREDICTIONS]
    logits[2:4, 1] = math.nan
    with pytest.raises(ValueError, match="2 of 6 clips are NaN"):
        compute_metrics(evaluation_of(logits, np.array(REFERENCES)))


def test_compute_metrics_refuses_shapes_that_do_not_agree() -> None:
    with pytest.raises(ValueError, match=r"\(6, 4\) and \(5,\)"):
        compute_metrics(evaluation_of(np.zeros((6, 4)), np.zeros(5, dtype=int)))
    with pytest.raises(ValueError, match=r"\(6,\) and \(6,\)"):
        compute_metrics(evaluation_of(np.zeros(6), np.zeros(6, dtype=int)))


def test_compute_metrics_refuses_an_evaluation_without_labels() -> None:
    with pytest.raises(ValueError, match="`references` is empty"):
        compute_metrics(evaluation_of(np.zeros((3, 4)), np.full(3, -100)))
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(\)"):
        compute_metrics(evaluation_of(np.zeros((3, 4)), None))


@pytest.mark.parametrize("metric", [unweighted_accuracy, weighted_accuracy, macro_f1])
@pytest.mark.parametrize(
    ("references", "predictions", "message"),
    [
        ([], [], "`references` is empty"),
        ([0, 1, 1], [0, 1], "3 references and 2 predictions"),
        ([0, -100], [0, 1], "`references` holds -100 at position 1, expected class indices of at least 0"),
        (["happy"], ["sad"], r"`references` must hold one integer.*label2id"),
        ([0, 1], [[0.1, 0.9], [0.8, 0.2]], r"`predictions` must hold one integer.*\(2, 2\)"),
    ],
)
def test_unusable_input_is_refused(metric, references, predictions, message) -> None:
    with pytest.raises(ValueError, match=message):
        metric(references, predictions)


def test_a_label_beyond_the_classes_is_refused_with_its_place() -> None:
    with pytest.raises(ValueError, match="`predictions` holds 4 at position 2, expected class indices from 0 to 3"):
        confusion_matrix([0, 1, 2], [0, 1, 4], num_labels=4)


def test_names_that_repeat_are_refused() -> None:
    with pytest.raises(ValueError, match="its own name"):
        emotion_metrics([0, 1], [0, 1], ["happy", "happy"])
