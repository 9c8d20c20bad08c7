"""Folds and splits: who is held out, who validates, and that nobody is on two sides."""

import itertools
import logging
from collections import Counter
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from foal_hf.corpora import folds
from foal_hf.corpora.folds import Fold, make_folds, split_groups


CLASSES = ["angry", "happy", "sad"]


def corpus_of(*speakers: tuple[str, str | None, str]) -> dict[str, list[Any]]:
    """Columns of (speaker, session, one letter for each of the clips), the clips of all speakers taken in turn."""
    letters = {name[0]: name for name in CLASSES}
    clips = [[(name, session, letters[letter]) for letter in emotions] for name, session, emotions in speakers]
    rows = [row for turn in itertools.zip_longest(*clips) for row in turn if row is not None]
    return dict(zip(("speaker", "session", "emotion"), map(list, zip(*rows, strict=True)), strict=True))


def pairs(num_sessions: int = 5) -> dict[str, list[Any]]:
    """A man and a woman in each session, as in IEMOCAP."""
    return corpus_of(*((f"{n}{letter}", f"Ses{n}", "ahsahsa") for n in range(1, num_sessions + 1) for letter in "FM"))


def speakers_of(corpus: dict[str, list[Any]], rows: list[int]) -> set[str]:
    return {corpus["speaker"][row] for row in rows}


def sides(corpus: dict[str, list[Any]], fold: Fold) -> list[set[str]]:
    return [speakers_of(corpus, rows) for rows in (fold.train, fold.validation, fold.test)]


def test_each_session_is_held_out_once_and_one_speaker_of_the_others_validates() -> None:
    corpus = pairs()
    folds = make_folds(corpus, by="session")
    assert [fold.name for fold in folds] == ["Ses1", "Ses2", "Ses3", "Ses4", "Ses5"]
    for fold in folds:
        train, validation, test = sides(corpus, fold)
        assert test == {f"{fold.name[3]}F", f"{fold.name[3]}M"}
        assert len(validation) == 1 and len(train) == 7
        assert train.isdisjoint(validation | test) and validation.isdisjoint(test)
        assert sorted(fold.train + fold.validation + fold.test) == list(range(70))
    assert sorted(row for fold in folds for row in fold.test) == list(range(70))


def test_by_speaker_the_partner_of_the_session_validates() -> None:
    corpus = pairs()
    folds = make_folds(corpus, by="speaker")
    assert [fold.name for fold in folds] == sorted(set(corpus["speaker"]))
    for fold in folds:
        _, validation, test = sides(corpus, fold)
        assert test == {fold.name}
        assert validation == {fold.name[0] + {"F": "M", "M": "F"}[fold.name[1]]}


def test_as_many_speakers_validate_as_it_takes_to_have_every_class() -> None:
    corpus = corpus_of(*((f"s{n}", None, ["ah", "hs", "sa"][n % 3]) for n in range(9)))
    for fold in make_folds(corpus, by="speaker"):
        assert len(speakers_of(corpus, fold.validation)) == 2
        for rows in (fold.train, fold.validation):
            assert {corpus["emotion"][row] for row in rows} == set(CLASSES)


def test_a_tenth_of_many_speakers_validates() -> None:
    corpus = corpus_of(*((f"s{n:02d}", f"S{n % 2}", "ahs") for n in range(68)))
    for fold in make_folds(corpus, by="session"):
        assert len(speakers_of(corpus, fold.validation)) == 3  # of the 34 of the other session
        assert len(speakers_of(corpus, fold.train)) == 31


def test_a_class_of_one_speaker_stays_in_the_training_part(caplog: pytest.LogCaptureFixture) -> None:
    corpus = corpus_of(("x", "A", "ah"), ("y", "B", "ah"), ("z", "C", "ah"), ("w", "C", "ahs"))
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="has no clip of sad while the session 'C'"):
        make_folds(corpus)
    assert "no clip of sad while session 'A' is held out" in caplog.text


def test_all_classes_that_do_not_reach_the_validation_part_are_named(caplog: pytest.LogCaptureFixture) -> None:
    corpus = corpus_of(("x", "A", "h"), ("y", "B", "h"), ("z", "C", "h"), ("w", "C", "ahs"))
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="has no clip of angry, sad while"):
        make_folds(corpus)
    assert "no clip of angry, sad while session 'A' is held out" in caplog.text


def test_a_streamed_corpus_is_refused() -> None:
    stream = Dataset.from_dict(pairs()).to_iterable_dataset()
    with pytest.raises(ValueError, match=r"^Folds need all rows: load the corpus without streaming\.$"):
        make_folds(stream)


def test_validation_can_be_left_out() -> None:
    corpus = pairs(2)
    for fold in make_folds(corpus, validation=None):
        assert fold.validation == [] and len(fold.train) == len(fold.test) == 14


def test_folds_are_the_same_every_time_and_other_seeds_choose_others() -> None:
    corpus = pairs()
    assert make_folds(corpus, seed=3) == make_folds(corpus, seed=3)
    chosen = {tuple(tuple(fold.validation) for fold in make_folds(corpus, seed=seed)) for seed in range(5)}
    assert len(chosen) > 1


def test_the_seed_is_zero_unless_given() -> None:
    corpus = pairs()
    assert make_folds(corpus) == make_folds(corpus, seed=0) != make_folds(corpus, seed=1)


def test_each_fold_chooses_anew_who_validates() -> None:
    corpus = pairs(11)
    # Were all folds to take the first of one order, there would be at most three: two where it is held out itself.
    for seed in range(3):
        assert len({frozenset(speakers_of(corpus, fold.validation)) for fold in make_folds(corpus, seed=seed)}) > 5


def test_folds_of_a_seed_are_those_of_earlier_versions() -> None:
    corpus = pairs()
    chosen = [speakers_of(corpus, fold.validation) for fold in make_folds(corpus)]
    assert chosen == [{"5F"}, {"5M"}, {"1M"}, {"5M"}, {"1F"}]
    parts = ["test", "train", "train", "train", "train", "test", "test"]
    groups = [f"g{index}" for index in range(7)]
    assert split_groups(groups, ["sad"] * 7, {"train": 0.6, "test": 0.4}) == parts


def test_the_order_of_the_rows_does_not_change_who_validates() -> None:
    corpus = pairs()
    turned = {name: column[::-1] for name, column in corpus.items()}
    there, back = make_folds(corpus), make_folds(turned)
    assert [sides(corpus, fold) for fold in there] == [sides(turned, fold) for fold in back]


def test_a_dataset_gives_the_folds_of_its_columns() -> None:
    corpus = pairs()
    columns = {**corpus, "emotion": [CLASSES.index(name) for name in corpus["emotion"]]}
    features = Features(speaker=Value("string"), session=Value("string"), emotion=ClassLabel(names=CLASSES))
    assert make_folds(Dataset.from_dict(columns, features=features), by="speaker") == make_folds(corpus, by="speaker")


def test_a_class_of_the_corpus_without_clips_is_missing_in_training() -> None:
    corpus = pairs(3)
    columns = {**corpus, "emotion": [CLASSES.index(name) for name in corpus["emotion"]]}
    features = Features(
        speaker=Value("string"), session=Value("string"), emotion=ClassLabel(names=[*CLASSES, "afraid"])
    )
    with pytest.raises(ValueError, match="has no clip of afraid while the session 'Ses1'"):
        make_folds(Dataset.from_dict(columns, features=features))


@pytest.mark.parametrize(
    ("corpus", "options", "message"),
    [
        (pairs(), {"by": "row"}, '`by` must be "session" or "speaker"'),
        (pairs(), {"validation": "test"}, '`validation` must be "speaker" or None'),
        ({"speaker": ["a"], "session": ["b"]}, {}, "missing: emotion"),
        ({"session": ["b"]}, {}, "missing: speaker, emotion"),
        (
            corpus_of(("a", "A", "ahs"), ("a", "B", "ahs")),
            {},
            "1 speakers are in more than one session, such as 'a' in",
        ),
        (
            corpus_of(("a", None, "ahs"), ("b", "B", "ahs"), ("c", "B", "ahs")),
            {},
            '1 of 3 speakers have no session.* by="speaker"',
        ),
        (pairs(1), {}, "only one session, 'Ses1'"),
        (corpus_of(("a", "A", "ahs"), ("b", "B", "ahs")), {}, "No speaker can validate while session 'A' is held out"),
        ({"speaker": [None, "b"], "emotion": ["sad", "sad"]}, {"by": "speaker"}, "1 of 2 clips have no speaker"),
        ({"speaker": [], "emotion": []}, {"by": "speaker"}, "0 of 0 clips"),
    ],
)
def test_what_cannot_be_divided_is_refused(corpus: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_folds(corpus, **options)


def test_groups_stay_whole_and_parts_have_their_share_of_each_class() -> None:
    groups = [f"g{index % 23:02d}" for index in range(460)]
    classes = [CLASSES[(index // 23) % 3] for index in range(460)]
    parts = split_groups(groups, classes, {"train": 0.7, "validation": 0.1, "test": 0.2})
    of_group = {group: {part for name, part in zip(groups, parts, strict=True) if name == group} for group in groups}
    assert all(len(found) == 1 for found in of_group.values())
    counts = Counter(zip(parts, classes, strict=True))
    shares = {"train": 0.7, "validation": 0.1, "test": 0.2}
    for (part, name), count in counts.items():
        assert count / classes.count(name) == pytest.approx(shares[part], abs=0.04)
    assert len(counts) == 9


def test_a_rare_class_reaches_every_part_where_it_can() -> None:
    speakers = [f"s{index}" for index in range(13)]
    rows = [(name, "angry") for name in speakers for _ in range(5)] + [(name, "sad") for name in speakers[:3]]
    for seed in range(5):
        parts = split_groups(*zip(*rows, strict=True), {"train": 0.6, "validation": 0.2, "test": 0.2}, seed=seed)
        assert set(parts[65:]) == {"train", "validation", "test"}


def test_no_part_is_empty_however_uneven_the_groups_are() -> None:
    groups = ["large"] * 97 + ["one", "two"]
    parts = split_groups(groups, ["sad"] * 99, {"train": 0.8, "validation": 0.1, "test": 0.1})
    assert set(parts) == {"train", "validation", "test"}
    with pytest.raises(ValueError, match=r"3 groups are too few for the parts a, b, c, d: 4 are needed"):
        split_groups(groups, ["sad"] * 99, dict.fromkeys("abcd", 0.25))


@pytest.mark.parametrize(
    ("num_groups", "shares", "sizes"),
    [
        (10, [0.3, 0.7], [3, 7]),
        (3, [0.1, 0.9], [1, 2]),
        (3, [0.9, 0.1], [2, 1]),
        (3, [0.1, 0.1, 0.8], [1, 1, 1]),
        (5, [0.8, 0.1, 0.1], [3, 1, 1]),
    ],
)
def test_groups_of_one_size_fill_parts_as_closely_as_they_can(num_groups: int, shares: list, sizes: list) -> None:
    groups = [f"g{index}" for index in range(num_groups)]
    parts = split_groups(groups, ["sad"] * num_groups, dict(zip("abc", shares, strict=False)))
    assert [parts.count(name) for name in "abc"[: len(shares)]] == sizes


def test_a_small_class_is_divided_as_carefully_as_a_large_one() -> None:
    # Sizes 20 and 10 of the large class would be exactly half of 60, but would have 6 of the 8 clips of the small one.
    large, small = {"a": 20, "b": 10, "c": 16, "d": 14}, {"a": 3, "b": 3, "c": 1, "d": 1}
    rows = [
        (name, kind) for kind, sizes in (("sad", large), ("happy", small)) for name in sizes for _ in range(sizes[name])
    ]
    for seed in range(5):
        parts = split_groups(*zip(*rows, strict=True), {"one": 0.5, "two": 0.5}, seed=seed)
        sides = {frozenset(name for (name, _), part in zip(rows, parts, strict=True) if part == side) for side in parts}
        assert sides == {frozenset("ad"), frozenset("bc")}


def test_other_seeds_divide_otherwise_and_the_seed_is_zero_unless_given() -> None:
    groups, fractions = [f"g{index}" for index in range(11)], {"train": 0.6, "test": 0.4}
    divided = {seed: tuple(split_groups(groups, ["sad"] * 11, fractions, seed=seed)) for seed in range(4)}
    assert len(set(divided.values())) > 1
    assert tuple(split_groups(groups, ["sad"] * 11, fractions)) == divided[0] != divided[1]


def test_of_very_many_groups_fewer_orders_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = set()
    order = folds._order
    monkeypatch.setattr(folds, "_MAX_HASHES", 37)
    monkeypatch.setattr(folds, "_order", lambda *key: compared.add(key[1]) or order(*key))
    parts = split_groups([f"g{index}" for index in range(11)], ["sad"] * 11, {"train": 0.6, "test": 0.4})
    assert compared == {0, 1, 2} and len(parts) == 11
