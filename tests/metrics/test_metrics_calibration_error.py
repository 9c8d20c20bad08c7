"""The expected calibration error and its bins, against values worked out by hand and against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from foal_hf.metrics import emotion_metrics, expected_calibration_error, reliability_bins


# Confidences 0.6, 0.6 (one of the two right), 0.9 (right) and 1 (wrong).
PROBABILITIES = [[0.6, 0.4], [0.4, 0.6], [0.9, 0.1], [0.0, 1.0]]
REFERENCES = [0, 0, 0, 0]


def test_the_bins_are_the_hand_values() -> None:
    bins = reliability_bins(REFERENCES, PROBABILITIES, num_bins=5)
    assert bins.edges.tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert bins.num_clips.tolist() == [0, 0, 2, 0, 2]
    assert np.isnan(bins.accuracy[[0, 1, 3]]).all() and np.isnan(bins.confidence[[0, 1, 3]]).all()
    assert bins.accuracy[[2, 4]].tolist() == [0.5, 0.5]
    assert bins.confidence[[2, 4]].tolist() == pytest.approx([0.6, 0.95])
    assert bins.expected_calibration_error == pytest.approx((2 * 0.1 + 2 * 0.45) / 4)


def test_bins_above_the_highest_confidence_are_empty() -> None:
    bins = reliability_bins([0], [[0.6, 0.4]], num_bins=5)
    assert bins.num_clips.tolist() == [0, 0, 1, 0, 0]
    assert [len(each) for each in (bins.edges, bins.accuracy, bins.confidence)] == [6, 5, 5]


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin() -> None:
    bins = reliability_bins([0, 0, 0], [[0.5, 0.5], [0.75, 0.25], [1, 0]], num_bins=4)  # edges that floats can hold
    assert bins.num_clips.tolist() == [0, 1, 1, 1]


def test_more_bins_find_gaps_that_cancel_out_in_fewer() -> None:
    errors = [expected_calibration_error(REFERENCES, PROBABILITIES, num_bins) for num_bins in (1, 5, 97)]
    assert errors == pytest.approx([abs(0.5 - 3.1 / 4), 0.275, (2 * 0.1 + 0.1 + 1) / 4])


@pytest.mark.parametrize("num_bins", [3, 15])
def test_accuracy_and_confidence_of_the_bins_are_scikit_learns(num_bins: int) -> None:
    generator = np.random.default_rng(num_bins)
    probabilities, references = generator.dirichlet(np.ones(5) / 3, size=503), generator.integers(5, size=503)
    bins = reliability_bins(references, probabilities, num_bins)
    right, confidence = probabilities.argmax(axis=1) == references, probabilities.max(axis=1)
    accuracies, confidences = calibration_curve(right, confidence, n_bins=num_bins)
    used = bins.num_clips > 0
    np.testing.assert_allclose(bins.accuracy[used], accuracies, rtol=1e-12)
    np.testing.assert_allclose(bins.confidence[used], confidences, rtol=1e-12)


def test_a_model_that_is_as_often_right_as_it_says_has_almost_no_error() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), size=40009)
    references = (generator.random(40009)[:, None] > probabilities.cumsum(axis=1)).sum(axis=1)
    assert expected_calibration_error(references, probabilities) < 0.01
    sharper = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    assert expected_calibration_error(references, sharper) > 0.1


def test_half_precision_and_tensors_are_taken() -> None:
    logits = torch.randn(101, 7, generator=torch.Generator().manual_seed(0)) * 3
    references = torch.arange(101) % 7
    expected = expected_calibration_error(references, logits.softmax(-1))
    coarse = logits.softmax(-1).bfloat16().float()
    assert expected_calibration_error(references.tolist(), coarse.numpy()) == pytest.approx(expected, abs=0.01)


def test_emotion_metrics_have_it_where_probabilities_are_given() -> None:
    metrics = emotion_metrics(REFERENCES, [0, 1, 0, 1], ["happy", "sad"], probabilities=PROBABILITIES)
    assert metrics["expected_calibration_error"] == expected_calibration_error(REFERENCES, PROBABILITIES)
    assert metrics["absent_classes"] == ["sad"]
    assert "expected_calibration_error" not in emotion_metrics(REFERENCES, [0, 1, 0, 1], ["happy", "sad"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"probabilities": [[2.0, -1.0]] * 2}, r"row 0 is \[2.0, -1.0\]. Apply a softmax to logits"),
        ({"probabilities": [[0.5, 0.5], [0.5, 0.6]]}, r"row 1 is \[0.5, 0.6\]"),
        ({"probabilities": [[0.5, 0.5], [0.5, np.nan]]}, "row 1 is"),
        ({"probabilities": [0.5, 0.5]}, r"\(clips, classes\), got \(2,\)"),
        ({"probabilities": [[0.5, 0.5]] * 3}, "for each reference, got 2 and 3"),
        ({"references": [0, 2]}, "`references` holds 2 at position 1"),
        ({"references": [], "probabilities": np.zeros((0, 2))}, "`references` is empty"),
        ({"num_bins": 0}, "`num_bins` must be at least 1, got 0"),
    ],
)
def test_what_is_no_probability_is_refused(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reliability_bins(**{"references": [0, 1], "probabilities": [[0.5, 0.5]] * 2, **given})
