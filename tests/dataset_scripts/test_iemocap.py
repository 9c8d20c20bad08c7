"""The builder of IEMOCAP, on generated copies of the corpus."""

import dataclasses
import importlib.util
import json
import logging
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import fake_iemocap
import pytest
import torch
from fake_iemocap import SMALL_TURNS, full_tree, small_tree
from huggingface_hub import DatasetCard
from media_builders import loudest_hertz

from foal_hf.foal_net.media_foal_net import read_clip


FOLDER = Path(__file__).parents[2] / "dataset_scripts" / "iemocap"
TURNS = {turn.name: turn for turn in SMALL_TURNS}


def import_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_iemocap", FOLDER / "build_iemocap.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # datasets looks a builder's module up by its name
    spec.loader.exec_module(module)
    return module


build_iemocap = import_script()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tree(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_tree(tmp_path_factory.mktemp("full"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def make_builder(data_dir: Path | None, cache: Path, config: str = "four_class", **options: Any) -> Any:
    data_dir_or_none = None if data_dir is None else str(data_dir)
    return build_iemocap.Iemocap(cache_dir=str(cache), config_name=config, data_dir=data_dir_or_none, **options)


def load(data_dir: Path | None, cache: Path, config: str = "four_class", **options: Any) -> datasets.Dataset:
    builder = make_builder(data_dir, cache, config, **options)
    builder.download_and_prepare()
    return builder.as_dataset(split="train")


def load_small(small: Path, cache: Path, config: str = "all") -> datasets.Dataset:
    return load(small, cache, config, allow_partial=True)


def stored(dataset: Any) -> list[dict[str, Any]]:
    """The rows, with paths instead of decoders."""
    for name, feature in (("audio", datasets.Audio(decode=False)), ("video", datasets.Video(decode=False))):
        dataset = dataset.cast_column(name, feature)
    return list(dataset)


# What the rows say


def test_the_speaker_is_the_session_and_the_letter_of_the_last_field(small: Path, cache: Path) -> None:
    rows = {row["clip_id"]: row for row in stored(load_small(small, cache))}
    assert {name: rows[name]["speaker"] for name in ("Ses01F_impro01_M000", "Ses01M_impro01_F000")} == {
        "Ses01F_impro01_M000": "Ses01M",
        "Ses01M_impro01_F000": "Ses01F",
    }
    assert rows["Ses01F_impro01_M000"]["gender"] == "male"
    assert rows["Ses01M_impro01_F000"]["gender"] == "female"
    assert {row["session"] for row in rows.values()} == {"Ses01", "Ses03", "Ses05"}


def test_the_crop_shows_the_speaker_and_the_sound_is_the_turn(small: Path, cache: Path) -> None:
    rows = stored(load_small(small, cache))
    assert len(rows) == len(SMALL_TURNS)
    for row in rows:
        turn = TURNS[row["clip_id"]]
        places = {name: row[name] for name in ("start_seconds", "end_seconds", "audio_start_seconds", "crop_box")}
        clip = read_clip(audio=row["audio"], video=row["video"], frames_per_second=13.0, **places)
        assert clip.waveform is not None and clip.frames is not None
        # The median over time: the first picture may be one that the film has shown since before the turn.
        picture = clip.frames.float().median(dim=0).values
        assert picture.shape == (3, 240, 350)
        expected = torch.tensor(turn.colour, dtype=torch.float32)[:, None, None].expand_as(picture)
        torch.testing.assert_close(picture, expected, atol=16, rtol=0)
        assert loudest_hertz(clip.waveform, 16_000) == pytest.approx(turn.hertz, abs=1.5)
        assert len(clip.waveform) == round((turn.end_seconds - turn.start_seconds) * 16_000)


def test_both_sides_of_the_picture_and_both_dialog_letters_occur_in_the_small_tree(small: Path, cache: Path) -> None:
    sides = {(row["clip_id"][5], row["clip_id"][-4]): row["crop_box"] for row in stored(load_small(small, cache))}
    left, right = [5, 120, 355, 360], [365, 120, 715, 360]
    assert sides == {("F", "F"): left, ("F", "M"): right, ("M", "M"): left, ("M", "F"): right}


def test_times_ratings_and_words_are_those_of_the_files(small: Path, cache: Path) -> None:
    for row in stored(load_small(small, cache)):
        turn = TURNS[row["clip_id"]]
        assert (row["start_seconds"], row["end_seconds"]) == (turn.start_seconds, turn.end_seconds)
        assert row["audio_start_seconds"] == 0.0
        assert (row["valence"], row["activation"], row["dominance"]) == pytest.approx(turn.ratings, abs=1e-6)
        assert row["transcript"] == turn.text
        assert row["partition"] is None


def test_characters_of_latin_1_neither_end_a_line_nor_vanish(small: Path, cache: Path) -> None:
    rows = {row["clip_id"]: row for row in stored(load_small(small, cache))}
    assert rows["Ses01F_impro01_M000"]["transcript"] == "No caf\xe9\x85 not today\x85"
    assert rows["Ses01M_impro01_M000"]["transcript"] is None


def test_media_are_paths_of_the_copy(small: Path, cache: Path) -> None:
    row = stored(load_small(small, cache))[-1]
    dialog = small / "Session5" / "dialog" / "avi" / "DivX" / "Ses05M_script01_1b.avi"
    sentence = small / "Session5" / "sentences" / "wav" / "Ses05M_script01_1b" / "Ses05M_script01_1b_M000.wav"
    assert row["video"] == {"path": str(dialog), "bytes": None}
    assert row["audio"] == {"path": str(sentence), "bytes": None}


def test_four_class_counts_excited_as_happy_and_leaves_the_rest_out(small: Path, cache: Path) -> None:
    dataset = load_small(small, cache, "four_class")
    names = dataset.features["emotion"].names
    assert names == ["happy", "neutral", "sad", "angry"]
    emotions = {row["clip_id"]: names[row["emotion"]] for row in stored(dataset)}
    assert emotions == {
        "Ses01F_impro01_F000": "neutral",
        "Ses01F_impro01_F001": "happy",
        "Ses01F_impro01_M000": "angry",
        "Ses01M_impro01_F000": "happy",
        "Ses01M_impro01_M000": "sad",
        "Ses05M_script01_1_M000": "sad",
        "Ses05M_script01_1b_M000": "happy",
    }


def test_all_has_every_label_by_its_full_name(small: Path, cache: Path) -> None:
    dataset = load_small(small, cache, "all")
    names = dataset.features["emotion"].names
    assert names[:4] == ["happy", "neutral", "sad", "angry"]
    assert names[4:] == ["excited", "frustrated", "surprised", "fearful", "disgusted", "other", "no agreement"]
    emotions = {row["clip_id"]: names[row["emotion"]] for row in stored(dataset)}
    assert emotions["Ses01F_impro01_F001"] == "excited"
    assert emotions["Ses01F_impro01_M001"] == "no agreement"
    assert emotions["Ses03M_impro05a_F000"] == "frustrated"


def test_four_class_is_the_default(small: Path, cache: Path) -> None:
    assert build_iemocap.Iemocap(cache_dir=str(cache), data_dir=str(small)).config.name == "four_class"


def test_what_cannot_be_used_is_counted_in_the_log(small: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_small(small, cache)
    assert (
        "1 transcript lines that do not parse (Ses01F_impro01.txt, line 5); "
        "4 label lines that do not parse (Ses01F_impro01.txt, line 18); "
        "1 repeated ids, of which the first counts (Ses01F_impro01.txt, line 22); "
        "1 transcribed turns without a label (Ses01F_impro01_F900); "
        "1 labelled turns without a transcript (Ses01M_impro01_M000)"
    ) in caplog.text


# Counts


@pytest.mark.parametrize("session", range(1, 6))
def test_four_class_has_the_published_counts(full: Path, four_class: list[tuple[str, str, str]], session: int) -> None:
    angry, happy, excited, neutral, sad = fake_iemocap.SESSION_COUNTS[session]
    of_session = [(speaker, emotion) for name, speaker, emotion in four_class if name.startswith(f"Ses0{session}")]
    assert Counter(emotion for _, emotion in of_session) == {
        "angry": angry,
        "happy": happy + excited,
        "neutral": neutral,
        "sad": sad,
    }
    for letter in "FM":
        angry, happy, neutral, sad = fake_iemocap.SPEAKER_COUNTS[f"{session}{letter}"]
        assert Counter(emotion for speaker, emotion in of_session if speaker == f"Ses0{session}{letter}") == {
            "angry": angry,
            "happy": happy,
            "neutral": neutral,
            "sad": sad,
        }


@pytest.fixture(scope="module")
def four_class(full: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str]]:
    return names_speakers_emotions(load(full, tmp_path_factory.mktemp("cache"), "four_class"))


def names_speakers_emotions(dataset: datasets.Dataset) -> list[tuple[str, str, str]]:
    emotions = dataset.features["emotion"].int2str(dataset["emotion"][:])
    return list(zip(dataset["clip_id"][:], dataset["speaker"][:], emotions, strict=True))


def test_four_class_has_5531_turns_and_the_published_totals(four_class: list[tuple[str, str, str]]) -> None:
    assert Counter(emotion for _, _, emotion in four_class) == {
        "neutral": 1708,
        "happy": 1636,
        "angry": 1103,
        "sad": 1084,
    }
    assert Counter(speaker for _, speaker, _ in four_class) == {
        **{"Ses01F": 528, "Ses01M": 557, "Ses02F": 481, "Ses02M": 542, "Ses03F": 522},
        **{"Ses03M": 629, "Ses04F": 528, "Ses04M": 503, "Ses05F": 590, "Ses05M": 651},
    }


def test_all_has_10039_turns_of_151_dialogs_and_the_published_totals(full: Path, cache: Path) -> None:
    rows = names_speakers_emotions(load(full, cache, "all"))
    assert len(rows) == 10_039
    assert Counter(emotion for _, _, emotion in rows) == {
        **{"no agreement": 2507, "frustrated": 1849, "neutral": 1708, "angry": 1103, "sad": 1084, "excited": 1041},
        **{"happy": 595, "surprised": 107, "fearful": 40, "other": 3, "disgusted": 2},
    }
    assert Counter(name[:5] for name, _, _ in rows) == {
        "Ses01": 1819,
        "Ses02": 1811,
        "Ses03": 2136,
        "Ses04": 2103,
        "Ses05": 2170,
    }
    assert len({name.rpartition("_")[0] for name, _, _ in rows}) == 151


def test_a_complete_copy_gives_no_warning(full: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    builder = make_builder(full, cache)
    builder.download_and_prepare()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert builder.skipped == []


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    """A full copy without session 2 and without the labels of one dialog of session 3."""
    release = full_tree(tmp_path / "partial")
    shutil.rmtree(release / "Session2")
    (release / "Session3" / "dialog" / "EmoEvaluation" / "Ses03M_impro05a.txt").unlink()
    return release


def test_a_partial_copy_is_refused_and_the_error_names_what_is_missing(partial: Path, cache: Path) -> None:
    lost = [t for t in fake_iemocap.full_turns() if t.dialog == "Ses03M_impro05a" and t.code in ("neu", "sad")]
    neutral = 320 - sum(turn.code == "neu" for turn in lost)
    sad_of_women = 172 - sum(turn.code == "sad" and turn.speaker == "Ses03F" for turn in lost)
    assert neutral < 320 and sad_of_women < 172
    with pytest.raises(ValueError, match="This copy of IEMOCAP is not complete") as caught:
        load(partial, cache)
    places = str(caught.value).partition("Differences: ")[2].split("; ")
    assert "Ses02: none of 1023 turns" in places
    (session,) = [place for place in places if place.startswith("Ses03:")]
    assert session.startswith("Ses03: dialogs 31 of 32, ") and f"neutral {neutral} of 320" in session
    (speaker,) = [place for place in places if place.startswith("Ses03F:")]
    assert f"sad {sad_of_women} of 172" in speaker
    assert not [place for place in places if place.startswith(("Ses01", "Ses04", "Ses05"))]
    assert "allow_partial=True" in places[-1]


def test_all_misses_labels_that_four_class_does_not_have(tmp_path: Path, cache: Path) -> None:
    release = full_tree(tmp_path)
    path = next(p for p in release.glob("*/dialog/EmoEvaluation/*.txt") if "\tfru\t" in p.read_text())
    path.write_text(path.read_text().replace("\tfru\t", "\t???\t", 1))
    session = f"Ses0{path.stem[4]}"
    total = fake_iemocap.TURNS_PER_SESSION[int(path.stem[4])]
    assert len(load(release, cache, "four_class")) == 5531
    with pytest.raises(
        ValueError, match=f"{session}: turns {total - 1} of {total}; all sessions: frustrated 1848 of 1849\\."
    ):
        load(release, cache, "all")


def test_a_partial_copy_is_taken_on_request_with_a_warning(
    partial: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = load(partial, cache, allow_partial=True)
    assert 5531 - 1023 - 50 < len(dataset) < 5531 - 1023
    assert set(dataset["session"][:]) == {"Ses01", "Ses03", "Ses04", "Ses05"}
    assert "Ses02: none of 1023 turns" in caplog.text


def test_a_copy_without_any_label_is_an_error_also_where_a_partial_one_is_not(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "Session1" / "dialog").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"0 of 5531 turns.*Ses01: none of 1085 turns.*EmoEvaluation"):
        load(tmp_path, cache, allow_partial=True)


def test_more_turns_than_published_are_named_too(tmp_path: Path, cache: Path) -> None:
    release = full_tree(tmp_path)
    labels = release / "Session4" / "dialog" / "EmoEvaluation" / "Ses04F_impro01.txt"
    labels.write_text(labels.read_text() + "[1.0 - 2.0]\tSes04F_impro01_F900\tneu\t[2.5, 2.5, 2.5]\n")
    with pytest.raises(ValueError, match=r"Ses04: neutral 259 of 258, turns 1032 of 1031; Ses04F: neutral 77 of 76\."):
        load(release, cache)


# Media that are not there


@pytest.fixture
def damaged(small: Path, tmp_path: Path) -> Path:
    """A small copy that lacks the media of four of its nine turns, each in another way."""
    release = shutil.copytree(small, tmp_path / "damaged")
    first = release / "Session1" / "sentences" / "wav" / "Ses01F_impro01"
    (first / "Ses01F_impro01_F000.wav").unlink()
    (first / "Ses01F_impro01_F001.wav").write_bytes(b"")
    (first / "Ses01F_impro01_M000.wav").write_bytes(b"<html>not found</html>")
    (release / "Session3" / "dialog" / "avi" / "DivX" / "Ses03M_impro05a.avi").unlink()
    return release


def test_missing_media_are_an_error_that_names_them(damaged: Path, cache: Path) -> None:
    with pytest.raises(ValueError, match="4 of 9 clips of IEMOCAP cannot be read") as caught:
        load(damaged, cache, "all", allow_partial=True)
    message = str(caught.value)
    sentences = damaged / "Session1" / "sentences" / "wav" / "Ses01F_impro01"
    assert f"Ses01F_impro01_F000 ({sentences / 'Ses01F_impro01_F000.wav'} does not exist)" in message
    assert "Ses01F_impro01_F001.wav is empty" in message
    assert "Ses01F_impro01_M000.wav is not a wav file" in message
    assert "Ses03M_impro05a.avi does not exist" in message
    assert 'on_error="skip"' in message


def test_missing_media_are_left_out_on_request_and_listed_also_from_the_cache(
    damaged: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"config": "all", "allow_partial": True, "on_error": "skip"}
    builder = make_builder(damaged, cache, **options)
    builder.download_and_prepare()
    left_out = ["Ses01F_impro01_F000", "Ses01F_impro01_F001", "Ses01F_impro01_M000", "Ses03M_impro05a_F000"]
    dataset = builder.as_dataset(split="train")
    assert dataset["clip_id"][:] == sorted(set(TURNS) - set(left_out))
    assert [entry["clip_id"] for entry in builder.skipped] == left_out
    assert "4 of 9 clips of IEMOCAP cannot be read" in caplog.text

    again = make_builder(damaged, cache, **options)
    again.download_and_prepare()
    assert again.cache_dir == builder.cache_dir
    assert again.skipped == builder.skipped
    assert builder.skipped[1]["reason"].endswith("Ses01F_impro01_F001.wav is empty")


def test_many_missing_files_are_counted_and_not_all_named(tmp_path: Path, cache: Path) -> None:
    release = full_tree(tmp_path)
    shutil.rmtree(release / "Session4" / "sentences")
    with pytest.raises(ValueError, match="1031 of 5531 clips of IEMOCAP cannot be read") as caught:
        load(release, cache)
    assert "and 1026 more" in str(caught.value)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_the_release_without_videos_is_not_enough(small: Path, cache: Path, tmp_path: Path, on_error: str) -> None:
    release = shutil.copytree(small, tmp_path / "IEMOCAP_full_release_withoutVideos" / "IEMOCAP_full_release")
    for session in release.iterdir():
        shutil.rmtree(session / "dialog" / "avi")
    with pytest.raises(ValueError, match=r"7 of 7 clips .* No clip is left\. .* the full release, with the videos"):
        load(release, cache, allow_partial=True, on_error=on_error)


# Where the copy is


def test_the_release_its_parent_and_other_names_are_found(small: Path, cache: Path, tmp_path: Path) -> None:
    rows = stored(load_small(small, cache))
    assert stored(load_small(small.parent, cache)) == rows
    renamed = shutil.copytree(small, tmp_path / "corpora" / "my copy")
    assert load_small(renamed, cache)["clip_id"][:] == sorted(TURNS)
    assert load_small(renamed.parent, cache)["clip_id"][:] == sorted(TURNS)


def test_a_session_in_a_session_is_found(small: Path, cache: Path, tmp_path: Path) -> None:
    release = tmp_path / "nested"
    for session in small.iterdir():
        shutil.copytree(session, release / session.name / session.name)
    assert load_small(release, cache)["clip_id"][:] == sorted(TURNS)


def test_without_a_copy_the_error_says_what_is_expected_and_how_to_get_it(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"1")
    for data_dir, problem in (
        (None, "No `data_dir` was given"),
        (tmp_path / "nowhere", f"There is no folder {tmp_path / 'nowhere'}"),
        (tmp_path / "file", f"There is no folder {tmp_path / 'file'}"),
        (tmp_path / "empty", f"{tmp_path / 'empty'} has no such folders"),
    ):
        with pytest.raises(FileNotFoundError, match="Session1 to Session5") as caught:
            load(data_dir, cache)
        assert problem in str(caught.value)
        assert "https://sail.usc.edu/iemocap/" in str(caught.value)


def test_two_copies_side_by_side_are_not_guessed_between(small: Path, cache: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "copies" / name).mkdir(parents=True)
        (tmp_path / "copies" / name / "Session1").symlink_to(small / "Session1")
    with pytest.raises(FileNotFoundError, match="has 2 copies"):
        load(tmp_path / "copies", cache)


def test_an_unknown_way_to_handle_errors_is_refused(small: Path, cache: Path) -> None:
    with pytest.raises(ValueError, match=r"on_error must be one of \['raise', 'skip'\], got 'ignore'"):
        load(small, cache, on_error="ignore")


# Caches, streams, tables


def test_rows_do_not_depend_on_the_order_of_the_file_system(small: Path, cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for path in sorted(small.rglob("*"), reverse=True):
        if path.is_file():
            (other / path.relative_to(small)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, other / path.relative_to(small))
    rows = json.dumps(stored(load_small(small, cache)))
    assert json.dumps(stored(load_small(other, cache))).replace(str(other), str(small)) == rows
    assert [row["clip_id"] for row in json.loads(rows)] == sorted(TURNS)


def test_streaming_gives_the_same_rows(small: Path, cache: Path) -> None:
    builder = make_builder(small, cache, "all", allow_partial=True)
    streamed = stored(builder.as_streaming_dataset(split="train"))
    assert streamed == stored(load_small(small, cache))


def test_a_stream_shares_the_turns_among_workers(small: Path, cache: Path) -> None:
    streamed = make_builder(small, cache, "all", allow_partial=True).as_streaming_dataset(split="train")
    assert streamed.num_shards == 9
    first, second = (stored(streamed.shard(num_shards=2, index=index)) for index in range(2))
    assert first and second and first + second == stored(streamed)


def test_the_cache_is_used_again_and_left_when_a_file_changes(small: Path, cache: Path, tmp_path: Path) -> None:
    release = shutil.copytree(small, tmp_path / "copy")
    options = {"config": "all", "allow_partial": True, "on_error": "skip"}
    before = make_builder(release, cache, **options).cache_dir
    assert len(load(release, cache, **options)) == 9
    assert make_builder(release, cache, **options).cache_dir == before

    (release / "Session5" / "dialog" / "EmoEvaluation" / ".DS_Store").write_bytes(b"junk")
    assert make_builder(release, cache, **options).cache_dir == before

    sentence = next(release.rglob("Ses05M_script01_1_M000.wav"))
    moved = sentence.rename(tmp_path / "moved.wav")
    assert len(load(release, cache, **options)) == 8
    moved.rename(sentence)
    assert len(load(release, cache, **options)) == 9

    labels = next(release.rglob("EmoEvaluation/Ses05M_script01_1.txt"))
    labels.write_text(labels.read_text().replace("\tsad\t", "\tang\t"))
    assert "angry" in {
        emotion for name, _, emotion in names_speakers_emotions(load(release, cache, **options)) if "05M" in name
    }


def test_equal_copies_in_other_places_have_caches_of_their_own(small: Path, cache: Path, tmp_path: Path) -> None:
    other = shutil.copytree(small, tmp_path / small.name)  # keeps the times of change
    assert make_builder(other, cache).cache_dir != make_builder(small, cache).cache_dir
    assert (
        load_small(other, cache)
        .cast_column("audio", datasets.Audio(decode=False))[0]["audio"]["path"]
        .startswith(str(tmp_path))
    )


def test_nothing_in_the_dataset_info_names_a_place_of_this_machine(small: Path, cache: Path) -> None:
    info = json.dumps(dataclasses.asdict(load_small(small, cache).info), default=str)
    assert str(small) not in info and str(small.parent) not in info


def test_rows_survive_parquet(small: Path, cache: Path, tmp_path: Path) -> None:
    dataset = load_small(small, cache)
    dataset.to_parquet(tmp_path / "rows.parquet")
    again = datasets.Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(cache))
    assert again.features == dataset.features
    assert stored(again) == stored(dataset)


def test_main_writes_parquet(damaged: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "table"
    options = ["--config", "all", "--allow-partial", "--on-error", "skip", "--cache-dir", str(cache)]
    assert build_iemocap.main(["--data-dir", str(damaged), "--output", str(output), *options]) == 0
    assert sorted(path.name for path in output.iterdir()) == ["skipped.json", "train-00000-of-00001.parquet"]
    assert "5 clips, 4 skipped" in capsys.readouterr().out
    loaded = datasets.load_dataset(str(output), cache_dir=str(cache), split="train")
    assert stored(loaded) == stored(load(damaged, cache, "all", allow_partial=True, on_error="skip"))
    assert loaded.features["emotion"].names[4] == "excited"


def test_main_says_in_one_line_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_iemocap.main(["--data-dir", str(tmp_path), "--output", str(tmp_path / "table")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("build_iemocap.py: IEMOCAP is read from your own copy") and error.count("\n") == 1
    assert not (tmp_path / "table").exists()


def test_the_card_forbids_to_pass_the_corpus_on_and_says_where_to_ask_for_it() -> None:
    card = DatasetCard.load(FOLDER / "README.md")
    assert card.data.to_dict()["redistribution"] is False
    assert card.data.license == "other"
    assert build_iemocap.LICENCE_PAGE in card.text
    assert "5(1)(f)" in card.text and "50(3)" in card.text
