"""Bootstrap intervals, against cases worked out by hand and against what they promise."""

import numpy as np
import pytest

from foal_hf.metrics import bootstrap_intervals, macro_f1, unweighted_accuracy, weighted_accuracy


METRICS = {"unweighted_accuracy": unweighted_accuracy, "weighted_accuracy": weighted_accuracy, "macro_f1": macro_f1}


def clips_of_speakers(num_speakers: int, clips_each: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, prediction and speaker of clips; some speakers are understood much better than others."""
    generator = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(num_speakers), clips_each)
    skill = generator.uniform(0.1, 0.9, size=num_speakers)
    references = generator.integers(3, size=len(speakers))
    wrong = (references + generator.integers(1, 3, size=len(speakers))) % 3
    return references, np.where(generator.random(len(speakers)) < skill[speakers], references, wrong), speakers


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_two_speakers_one_right_and_one_wrong_may_give_anything() -> None:
    # The resamples are (anna, anna), (anna, bert) and (bert, bert), a quarter, a half and a quarter of the time.
    speakers = ["anna", "anna", "bert", "bert"]
    intervals = bootstrap_intervals([0, 1, 0, 1], [0, 1, 1, 0], num_labels=2, clusters=speakers)
    assert intervals == dict.fromkeys(METRICS, (0.0, 1.0))
    middle = bootstrap_intervals([0, 1, 0, 1], [0, 1, 1, 0], num_labels=2, clusters=speakers, confidence=0.4)
    assert middle["weighted_accuracy"] == (0.5, 0.5)


def test_speakers_that_are_all_alike_leave_no_spread() -> None:
    references, predictions, speakers = [0, 0, 1] * 5, [0, 1, 1] * 5, np.repeat(range(5), 3)
    intervals = bootstrap_intervals(references, predictions, num_labels=2, clusters=speakers)
    for name, metric in METRICS.items():
        assert intervals[name] == pytest.approx((metric(references, predictions),) * 2)


def test_a_class_that_a_resample_lacks_is_left_out_of_its_ua() -> None:
    # Class 2 is spoken by carl alone, and never recognised. Of 27 resamples 8 lack him: UA is the mean of two recalls
    # of 1. In 18 he is one of several: 2/3. In 1, more than the lowest 2.5 %, there is nobody else: 0.
    references, predictions = [0, 1, 0, 1, 2, 2], [0, 1, 0, 1, 0, 1]
    speakers = ["anna", "anna", "bert", "bert", "carl", "carl"]
    for confidence, expected in ((0.95, (0.0, 1.0)), (0.6, (2 / 3, 1.0)), (0.3, (2 / 3, 2 / 3))):
        intervals = bootstrap_intervals(references, predictions, 3, speakers, confidence=confidence)
        assert intervals["unweighted_accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize("clusters", [None, "speakers"])
def test_intervals_hold_the_metric_itself(clusters: str | None) -> None:
    references, predictions, speakers = clips_of_speakers(13, 17, seed=3)
    intervals = bootstrap_intervals(references, predictions, 3, speakers if clusters else None)
    for name, metric in METRICS.items():
        low, high = intervals[name]
        assert 0 <= low < metric(references, predictions) < high <= 1


def test_speakers_who_differ_widen_the_interval() -> None:
    references, predictions, speakers = clips_of_speakers(11, 53, seed=5)
    by_clip = bootstrap_intervals(references, predictions, 3)
    by_speaker = bootstrap_intervals(references, predictions, 3, speakers)
    for name in METRICS:
        assert width(by_speaker[name]) > 2 * width(by_clip[name])


def test_a_cluster_for_every_clip_is_the_same_as_no_clusters() -> None:
    references, predictions, _ = clips_of_speakers(7, 29, seed=7)
    alone = bootstrap_intervals(references, predictions, 3, np.arange(7 * 29), num_resamples=4001)
    without = bootstrap_intervals(references, predictions, 3, num_resamples=4001)
    for name in METRICS:
        assert alone[name] == pytest.approx(without[name], abs=0.01)


def test_a_95_percent_interval_holds_the_truth_about_19_times_of_20() -> None:
    # The truth: half of the clips of a speaker drawn at random are right.
    tests = [clips_of_speakers(31, 5, seed) for seed in range(200)]
    intervals = [
        bootstrap_intervals(references, predictions, 3, speakers, num_resamples=400)["weighted_accuracy"]
        for references, predictions, speakers in tests
    ]
    assert 0.90 <= np.mean([low <= 0.5 <= high for low, high in intervals]) <= 0.98


def test_more_confidence_widens_the_interval() -> None:
    references, predictions, speakers = clips_of_speakers(11, 13, seed=11)
    widths = [
        width(bootstrap_intervals(references, predictions, 3, speakers, confidence=share)["unweighted_accuracy"])
        for share in (0.5, 0.8, 0.95, 0.99)
    ]
    assert widths == sorted(widths) and len(set(widths)) == 4


def test_a_seed_gives_the_same_interval_and_another_seed_another() -> None:
    references, predictions, speakers = clips_of_speakers(11, 13, seed=13)
    np.random.seed(0)  # noqa: NPY002  (the global generator is what is looked at)
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first, again, other = (bootstrap_intervals(references, predictions, 3, speakers, seed=seed) for seed in (0, 0, 1))
    assert first == again and first != other
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_a_thousand_resamples_of_seed_zero_are_drawn_unless_told_otherwise() -> None:
    generator = np.random.default_rng(0)
    arguments = generator.integers(3, size=97), generator.integers(3, size=97), 3
    assert bootstrap_intervals(*arguments) == bootstrap_intervals(*arguments, num_resamples=1000, seed=0)
    low, high = bootstrap_intervals(*arguments, num_resamples=1)["weighted_accuracy"]
    assert low == high


def test_names_and_numbers_of_speakers_give_the_same() -> None:
    references, predictions, speakers = clips_of_speakers(7, 13, seed=17)
    names = [f"speaker {chr(ord('a') + index)}" for index in speakers]
    assert bootstrap_intervals(references, predictions, 3, names) == bootstrap_intervals(
        references, predictions, 3, speakers
    )


def test_one_speaker_or_one_clip_has_no_interval() -> None:
    nothing = dict.fromkeys(METRICS)
    assert bootstrap_intervals([0, 1, 1], [0, 1, 0], num_labels=2, clusters=["anna"] * 3) == nothing
    assert bootstrap_intervals([1], [1], num_labels=2) == nothing
    assert bootstrap_intervals([0, 1], [0, 1], num_labels=2) == dict.fromkeys(METRICS, (1.0, 1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clusters": ["anna"]}, r"2 references, 2 predictions and clusters of the shape \(1,\)"),
        ({"clusters": [["anna"], ["bert"]]}, r"clusters of the shape \(2, 1\)"),
        ({"confidence": 95}, "`confidence` must be between 0 and 1, got 95"),
        ({"confidence": 1}, "`confidence` must be between 0 and 1, got 1"),
        ({"confidence": 0}, "`confidence` must be between 0 and 1, got 0"),
        ({"num_resamples": 0}, "`num_resamples` must be at least 1, got 0"),
        ({"references": [0, 2]}, "`references` holds 2 at position 1"),
        ({"predictions": [0, 2], "clusters": ["anna", "bert"]}, "`predictions` holds 2 at position 1"),
        ({"references": [0, 2], "clusters": ["anna", "bert"]}, "`references` holds 2 at position 1"),
    ],
)
def test_what_cannot_be_resampled_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals(**{"references": [0, 1], "predictions": [0, 1], "num_labels": 2, **arguments})
