"""The order of clips: classes in balance, little padding, the same on every run, and no clip lost between processes."""

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from foal_hf.data.sampling import BalancedLengthSampler


CLIPS, BATCH = 5531, 16
# Of IEMOCAP: happy with excited, neutral, sad, angry.
SIZES = np.array([1636, 1708, 1084, 1103])
LABELS = np.random.default_rng(5).permutation(np.repeat(np.arange(4), SIZES))


def iemocap_seconds() -> np.ndarray:
    """Lengths distributed like those of IEMOCAP: log-normal, mean 4.55 s, median 3.58 s."""
    median, mean = 3.58, 4.55
    spread = np.sqrt(2 * np.log(mean / median))
    seconds = np.random.default_rng(7).lognormal(np.log(median), spread, CLIPS)
    return np.clip(seconds, 0.585, 34.14)


SECONDS = iemocap_seconds()
AS_READ = np.minimum(SECONDS, 6.0)


def order(epoch: int = 0, **kwargs) -> list[int]:
    sampler = BalancedLengthSampler(CLIPS, BATCH, **kwargs)
    sampler.set_epoch(epoch)
    return list(sampler)


def padded_share(clips: list[int]) -> float:
    """Share of padding in batches that are padded to their longest clip."""
    batches = [AS_READ[clips[start : start + BATCH]] for start in range(0, len(clips), BATCH)]
    return 1 - AS_READ[clips].sum() / sum(batch.max() * len(batch) for batch in batches)


def full_batches(clips: list[int]) -> np.ndarray:
    return np.array(clips[: len(clips) // BATCH * BATCH]).reshape(-1, BATCH)


@pytest.mark.parametrize("labels", [None, LABELS], ids=["grouped", "grouped and balanced"])
@pytest.mark.parametrize("num_processes", [1, 3])
def test_less_than_8_percent_is_padding_where_6_fixed_seconds_have_over_35(labels, num_processes: int) -> None:
    assert 1 - AS_READ.mean() / 6 > 0.35
    for epoch in range(3):
        clips = order(epoch, labels=labels, lengths=SECONDS, num_processes=num_processes)
        assert padded_share(clips) < 0.05


@pytest.mark.parametrize("lengths", [None, SECONDS], ids=["balanced", "balanced and grouped"])
def test_over_epochs_all_classes_come_equally_often_and_all_clips_of_a_class_too(lengths) -> None:
    counts = np.zeros(CLIPS)
    for epoch in range(40):
        np.add.at(counts, order(epoch, labels=LABELS, lengths=lengths), 1)
    shares = np.bincount(LABELS, weights=counts) / counts.sum()
    # 221 thousand draws: the standard deviation of a share of 0.25 is below 0.001.
    np.testing.assert_allclose(shares, 0.25, atol=0.005)
    for label, size in enumerate(SIZES):
        of_class = counts[label == LABELS]
        expected = 40 * CLIPS / 4 / size
        # Drawn with replacement: counts of a clip are as good as Poisson, whose variance is its mean.
        assert of_class.mean() == pytest.approx(expected, rel=0.02)
        assert 0.8 < of_class.var() / expected < 1.2


@pytest.mark.parametrize("labels", [None, [3] * CLIPS], ids=["grouped", "grouped, of one class"])
def test_without_balance_every_clip_comes_once_and_one_class_is_no_error(labels) -> None:
    clips = order(2, lengths=SECONDS, labels=labels)
    assert len(clips) == CLIPS
    assert (sorted(clips) == list(range(CLIPS))) == (labels is None)


def test_neither_balanced_nor_grouped_is_a_random_order() -> None:
    clips = order()
    assert sorted(clips) == list(range(CLIPS)) and clips != sorted(clips)
    assert padded_share(clips) > 0.3


def test_a_clip_without_a_label_is_never_drawn() -> None:
    labels = [0, 1, -100, 1, 1, -100, 0]
    clips = list(BalancedLengthSampler(7, 2, labels=labels, lengths=[1.0] * 7, num_samples=500))
    assert len(clips) == 500 and set(clips) == {0, 1, 3, 4, 6}


def test_copies_of_a_clip_do_not_meet_in_a_batch() -> None:
    for epoch in range(5):
        batches = full_batches(order(epoch, labels=LABELS, lengths=SECONDS))
        meetings = sum(BATCH - len(set(batch)) for batch in batches)
        # Sorted together with their like, some 120 of 5531 would.
        assert meetings <= 2


def test_in_a_small_corpus_copies_meet_no_more_than_in_random_order() -> None:
    few = {"labels": LABELS[:300], "num_clips": 300, "batch_size": BATCH}
    met = {}
    for lengths in (None, SECONDS[:300]):
        met[lengths is None] = 0
        for epoch in range(20):
            sampler = BalancedLengthSampler(**few, lengths=lengths)
            sampler.set_epoch(epoch)
            met[lengths is None] += sum(BATCH - len(set(batch)) for batch in full_batches(list(sampler)))
    # Sorted together with their like, 29 % of the clips would.
    assert met[False] < 1.5 * met[True]


def test_clips_of_equal_length_are_in_random_order() -> None:
    clips = list(BalancedLengthSampler(97, 5, lengths=[2.0] * 97))
    assert sorted(clips) == list(range(97))
    assert abs(np.corrcoef(clips[:-1], clips[1:])[0, 1]) < 0.3


def test_order_is_a_function_of_seed_and_epoch() -> None:
    kwargs = {"labels": LABELS, "lengths": SECONDS}
    orders = {(seed, epoch): tuple(order(epoch, seed=seed, **kwargs)) for seed in range(3) for epoch in range(3)}
    assert len(set(orders.values())) == 9
    sampler = BalancedLengthSampler(CLIPS, BATCH, seed=2, **kwargs)
    for epoch in (1, 0, 1):
        sampler.set_epoch(epoch)
        assert tuple(sampler) == orders[2, epoch]


def test_the_longest_batch_is_the_first_of_all_and_batches_are_in_random_order_after_it() -> None:
    firsts, neighbours = [], []
    for epoch in range(30):
        batches = full_batches(order(epoch, labels=LABELS, lengths=SECONDS))
        longest = SECONDS[batches].max(axis=1)
        firsts.append(longest[0] == longest.max())
        neighbours.append(np.corrcoef(longest[:-1], longest[1:])[0, 1])
    assert firsts[0] and sum(firsts[1:]) <= 3
    assert abs(np.mean(neighbours)) < 0.05


@pytest.mark.parametrize("num_processes", [2, 3, 8])
def test_processes_share_an_epoch_and_take_batches_of_like_length_at_the_same_time(num_processes: int) -> None:
    sampler = BalancedLengthSampler(CLIPS, BATCH, lengths=SECONDS, num_processes=num_processes)
    sampler.set_epoch(1)
    whole = BatchSampler(sampler, BATCH, drop_last=False)
    shards = [list(BatchSamplerShard(whole, num_processes, rank)) for rank in range(num_processes)]
    rounds = CLIPS // (BATCH * num_processes)
    taken = np.array([shard[:rounds] for shard in shards])  # (processes, rounds, batch)
    assert len(np.unique(taken)) == taken.size
    assert {clip for shard in shards for batch in shard for clip in batch} == set(range(CLIPS))
    longest = AS_READ[taken].max(axis=2)
    waiting = 1 - longest.mean() / longest.max(axis=0).mean()
    assert waiting < 0.1  # batches in any order: 0.2 and more


def test_fewer_clips_than_a_batch_are_one_batch() -> None:
    assert sorted(BalancedLengthSampler(3, 7, lengths=[2.0, 1.0, 3.0])) == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_clips": 0}, "`num_clips` is 0"),
        ({"batch_size": 0}, "`batch_size` is 0"),
        ({"num_processes": 0}, "`num_processes` is 0"),
        ({"labels": [0, 1]}, "`labels` has 2 values for 3 clips"),
        ({"lengths": [1.0]}, "`lengths` has 1 values for 3 clips"),
        ({"labels": [-100] * 3}, "every one of 3 labels is -100"),
        ({"num_samples": 5}, "needs `labels`"),
        ({"labels": [0, 1, 1], "num_samples": 0}, "`num_samples` is 0"),
    ],
)
def test_bad_arguments_are_refused_with_the_reason(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BalancedLengthSampler(**{"num_clips": 3, "batch_size": 2, **arguments})


@pytest.mark.parametrize("seed", range(3))
def test_copies_of_a_pool_go_from_long_to_short_and_back(seed: int) -> None:
    lengths = [3.0, 5.0, 2.0, 7.0, 1.0]
    sampler = BalancedLengthSampler(
        5, batch_size=17, labels=[0, 0, 0, 0, 0], lengths=lengths, num_samples=17, seed=seed
    )
    clips = list(sampler)
    from_long = sorted(range(5), key=lambda clip: -lengths[clip])
    expected = []
    for copy in range(max(map(clips.count, clips))):
        taken = [clip for clip in from_long if clips.count(clip) > copy]
        expected += taken[::-1] if copy % 2 else taken
    assert clips == expected and clips.count(clips[0]) < 17


def test_seed_and_epoch_are_zero_unless_given() -> None:
    unset = list(BalancedLengthSampler(CLIPS, BATCH, labels=LABELS))
    assert unset == order(0, labels=LABELS, seed=0)
    assert unset not in (order(1, labels=LABELS), order(0, labels=LABELS, seed=1))


def test_an_epoch_may_be_of_one_clip() -> None:
    assert len(order(labels=LABELS, lengths=SECONDS, num_samples=1)) == 1
