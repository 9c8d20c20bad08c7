"""The RAVDESS loading script on small copies with real media, and on one of full size."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import json
import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import datasets
import fake_ravdess as fake
import pytest
from datasets.table import embed_table_storage
from media_builders import loudest_hertz
from requirements import need

from foal_hf.corpora.schema import corpus_features, undecoded


SCRIPT = Path(__file__).parents[2] / "dataset_scripts" / "ravdess" / "build_ravdess.py"
EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprised"]


def import_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_of_{SCRIPT.stem}", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


script = import_script()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return fake.make_ravdess(tmp_path_factory.mktemp("source") / "RAVDESS")


@pytest.fixture
def copy(source, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(source, tmp_path / "RAVDESS"))


@pytest.fixture
def build(tmp_path) -> Callable:
    def build(data_dir: Path | str | None, **options):
        options = {"allow_partial": True, "cache_dir": str(tmp_path / "cache"), **options}
        return script.Ravdess(dataset_name="ravdess", data_dir=data_dir and str(data_dir), **options)

    return build


def load(builder) -> datasets.Dataset:
    builder.download_and_prepare()
    return builder.as_dataset(split="train")


def ids(dataset) -> list[str]:
    return list(undecoded(dataset)["clip_id"])


@pytest.fixture
def messages(caplog) -> Callable[[], str]:
    """What was logged."""
    return lambda: caplog.text


def test_a_row_says_what_the_file_name_says(source, build):
    rows = {row["clip_id"]: row for row in undecoded(load(build(source)))}
    row = rows["01-01-06-01-02-01-12"]
    assert {name: value for name, value in row.items() if name not in ("audio", "video")} == {
        "clip_id": "01-01-06-01-02-01-12",
        "start_seconds": None,
        "end_seconds": None,
        "audio_start_seconds": None,
        "crop_box": None,
        "speaker": "Actor_12",
        "session": "fold_2",
        "gender": "female",
        "emotion": EMOTIONS.index("fear"),
        "valence": None,
        "activation": None,
        "dominance": None,
        "transcript": "Dogs are sitting by the door.",
        "partition": None,
    }
    assert rows["01-01-08-01-01-02-05"]["gender"] == "male"
    assert rows["01-01-08-01-01-02-05"]["transcript"] == "Kids are talking by the door."


@pytest.mark.parametrize(
    ("clip_id", "emotion"),
    [
        ("01-01-01-01-01-01-01", "neutral"),
        ("01-01-02-02-02-01-18", "calm"),
        ("01-01-03-02-02-02-24", "happy"),
        ("01-01-04-01-01-01-12", "sad"),
        ("01-01-05-02-01-02-01", "angry"),
        ("01-01-06-01-02-01-12", "fear"),
        ("01-01-08-01-01-02-05", "surprised"),
    ],
)
def test_sound_and_pictures_of_a_row_come_from_the_audio_video_file_of_its_clip(source, build, clip_id, emotion):
    dataset = load(build(source))
    place = ids(dataset).index(clip_id)
    paths = undecoded(dataset)[place]
    assert paths["audio"]["path"] == paths["video"]["path"] == str(fake.mp4_path(source, clip_id))
    row = dataset[place]
    assert dataset.features["emotion"].int2str(row["emotion"]) == emotion
    hertz, colour = fake.LOOKS[clip_id]
    samples = row["audio"].get_all_samples()
    assert samples.sample_rate == 16000
    assert loudest_hertz(samples.data[0], 16000) == pytest.approx(hertz, abs=5)
    seen = row["video"][3].float().mean((1, 2))
    assert seen.tolist() == pytest.approx(list(bytes.fromhex(colour[2:])), abs=12)


def test_the_columns_are_those_of_every_corpus(source, build):
    features = load(build(source)).features
    assert features == corpus_features(EMOTIONS)
    assert list(features) == list(corpus_features(EMOTIONS))


def test_rows_are_sorted_by_clip_id_wherever_the_files_lie(copy, build):
    assert ids(load(build(copy))) == sorted(fake.LOOKS)
    (copy / "Actor_12").rename(copy / "zz")
    (copy / "Actor_24").rename(copy / "Video_Speech_Actor_24")
    (copy / "aa").mkdir()
    shutil.move(copy / "Actor_01", copy / "aa" / "Actor_01")
    moved = build(copy)
    assert ids(load(moved)) == ids(moved.as_streaming_dataset(split="train")) == sorted(fake.LOOKS)


def test_links_to_folders_are_followed_once(copy, build):
    (copy / "Actor_12").rename(copy.parent / "elsewhere")
    (copy / "Actor_12").symlink_to(copy.parent / "elsewhere")
    (copy / "Actor_24" / "again").symlink_to(copy)
    assert ids(load(build(copy))) == sorted(fake.LOOKS)


def test_streaming_gives_the_same_rows_in_the_same_order(source, build):
    builder = build(source)
    streamed = list(undecoded(builder.as_streaming_dataset(split="train")))
    assert streamed == list(undecoded(load(builder)))
    assert builder.skipped == []


def test_a_relative_folder_stays_valid_elsewhere(copy, build, monkeypatch):
    monkeypatch.chdir(copy.parent)
    dataset = load(build("RAVDESS"))
    monkeypatch.chdir("/")
    assert dataset[0]["audio"].get_all_samples().data.shape[0] == 1


# Full size


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    return fake.make_full_ravdess(tmp_path_factory.mktemp("full"))


def text_columns(data_dir: Path, cache_dir: Path, **options) -> dict[str, list]:
    builder = script.Ravdess(data_dir=str(data_dir), cache_dir=str(cache_dir), **options)
    return undecoded(load(builder)).remove_columns(["audio", "video"]).to_dict()


@pytest.fixture(scope="module")
def full_rows(full, tmp_path_factory) -> dict[str, list]:
    return text_columns(full, tmp_path_factory.mktemp("cache"))


def test_a_full_copy_has_the_published_numbers(full_rows):
    assert len(full_rows["clip_id"]) == len(set(full_rows["clip_id"])) == 1440
    by_emotion = Counter(EMOTIONS[label] for label in full_rows["emotion"])
    assert by_emotion == {emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS}
    assert Counter(full_rows["speaker"]) == {f"Actor_{actor:02d}": 60 for actor in range(1, 25)}
    assert Counter(full_rows["gender"]) == {"female": 720, "male": 720}


def test_each_of_the_six_groups_has_two_women_and_two_men(full_rows):
    actors = set(zip(full_rows["speaker"], full_rows["session"], full_rows["gender"], strict=True))
    assert len(actors) == 24
    by_group = Counter((group, gender) for _, group, gender in actors)
    assert by_group == {(f"fold_{index}", gender): 2 for index in range(6) for gender in ("female", "male")}
    assert {speaker for speaker, group, _ in actors if group == "fold_1"} == {f"Actor_{n:02d}" for n in (5, 6, 7, 8)}


def test_the_groups_of_a_publication_can_be_had_instead(full, tmp_path):
    rows = text_columns(full, tmp_path, folds="luna_jimenez_2021")
    actors = set(zip(rows["speaker"], rows["session"], strict=True))
    assert Counter(group for _, group in actors) == {"fold_0": 5, "fold_1": 5, "fold_2": 5, "fold_3": 5, "fold_4": 4}
    assert {int(speaker[-2:]) for speaker, group in actors if group == "fold_4"} == {1, 4, 9, 22}


def test_the_card_names_the_groups_and_the_numbers():
    card = SCRIPT.with_name("README.md").read_text(encoding="utf-8")
    for folds in script.FOLDS.values():
        for fold in folds:
            assert f"| {', '.join(map(str, fold))} |" in card
    assert "1440" in card
    assert "13.4 GB" in card
    assert round(sum(num_bytes for _, num_bytes in script.ARCHIVES.values()) / 1e9, 1) == 13.4


def test_every_archive_has_a_checksum_of_its_own():
    assert list(script.ARCHIVES) == list(range(1, 25))
    checksums = [md5 for md5, _ in script.ARCHIVES.values()]
    assert len(set(checksums)) == 24
    assert all(len(md5) == 32 and int(md5, 16) for md5 in checksums)


# What is not complete


def test_a_partial_copy_is_refused_with_what_is_missing_by_actor_and_emotion(full, tmp_path, build):
    part = tmp_path / "part"
    shutil.copytree(full, part, copy_function=os.link)
    shutil.rmtree(part / "Actor_07")
    for name in ("01-01-05-01-01-01-03", "01-01-05-02-01-01-03", "01-01-01-01-01-01-24"):
        fake.mp4_path(part, name).unlink()
    with pytest.raises(ValueError, match="1377 of 1440 clips") as error:
        build(part, allow_partial=False).download_and_prepare()
    message = str(error.value)
    assert "Missing by actor: Actor_03 2 of 60, Actor_24 1 of 60, all of Actor_07." in message
    assert "angry 10 of 192" in message
    assert "neutral 5 of 96" in message
    assert "01-01-01-01-01-01-07" in message
    assert "allow_partial=True" in message


def test_a_partial_copy_is_read_with_a_warning_where_that_is_allowed(source, build, messages):
    assert len(load(build(source))) == 7
    assert "7 of 1440 clips" in messages()
    assert "Actor_12 58 of 60" in messages()


def test_a_copy_with_the_sound_alone_is_refused(copy, build):
    for path in copy.rglob("*.mp4"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no audio-video speech recording"):
        build(copy).download_and_prepare()


def test_no_corpus_at_all_names_both_ways_to_it(build):
    with pytest.raises(ValueError, match="data_dir=") as error:
        build(None).download_and_prepare()
    assert "download=True" in str(error.value)
    assert "https://zenodo.org/records/1188976" in str(error.value)


def test_a_folder_that_does_not_exist_is_named(build, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a folder: .*nowhere"):
        build(tmp_path / "nowhere").download_and_prepare()


@pytest.mark.parametrize(("option", "value"), [("on_error", "ignore"), ("folds", "seven")])
def test_a_wrong_choice_is_refused_at_once(source, build, option, value):
    with pytest.raises(ValueError, match=f"{option} must be one of .* got '{value}'"):
        build(source, **{option: value})


# What is broken

BROKEN = "01-01-05-02-01-02-01"


def damage_empty(path: Path) -> str:
    path.write_bytes(b"")
    return "is empty"


def damage_kind(path: Path) -> str:
    path.write_text("<html>Too many requests</html>")
    return "is not a mp4 file"


def damage_link(path: Path) -> str:
    path.unlink()
    path.symlink_to("nowhere")
    return "does not exist"


DAMAGES = [damage_empty, damage_kind, damage_link]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_recording_is_an_error_that_names_clip_and_file(copy, build, damage):
    reason = damage(fake.mp4_path(copy, BROKEN))
    with pytest.raises(ValueError, match="1 of 7 clips of RAVDESS cannot be read") as error:
        build(copy).download_and_prepare()
    assert f"{BROKEN} ({fake.mp4_path(copy, BROKEN)} {reason})" in str(error.value)
    assert 'on_error="skip"' in str(error.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_recording_is_left_out_and_listed_where_that_is_asked_for(copy, build, damage, messages):
    reason = damage(fake.mp4_path(copy, BROKEN))
    builder = build(copy, on_error="skip")
    assert ids(load(builder)) == sorted(set(fake.LOOKS) - {BROKEN})
    assert builder.skipped == [{"clip_id": BROKEN, "reason": f"{fake.mp4_path(copy, BROKEN)} {reason}"}]
    assert "1 of 7 clips" in messages()


def test_a_folder_whose_name_is_not_utf_8_is_named(copy, build):
    (copy / "Actor_12").rename(copy / os.fsdecode(b"Acteur\xe9_12"))
    with pytest.raises(ValueError, match=r"2 of 7 clips of RAVDESS cannot be read.*udce9_12.*not UTF-8; rename it"):
        build(copy).download_and_prepare()
    builder = build(copy, on_error="skip")
    assert len(load(builder)) == 5
    assert all("Acteur\\udce9_12" in entry["reason"] for entry in builder.skipped)


def test_many_broken_recordings_are_counted_and_the_first_named(copy, build):
    for name in fake.LOOKS:
        damage_empty(fake.mp4_path(copy, name))
    with pytest.raises(ValueError, match="7 of 7 clips") as error:
        build(copy).download_and_prepare()
    assert "01-01-01-01-01-01-01" in str(error.value)
    assert "and 2 more" in str(error.value)


def test_what_was_left_out_is_still_known_when_the_cache_is_read(copy, build, monkeypatch):
    damage_empty(fake.mp4_path(copy, BROKEN))
    before = build(copy, on_error="skip")
    load(before)
    after = build(copy, on_error="skip")
    monkeypatch.setattr(script.Ravdess, "_split_generators", None)  # whoever reads the cache does not ask again
    assert len(load(after)) == 6
    assert after.skipped == before.skipped != []


def test_nothing_is_said_of_skipped_clips_before_any_was_looked_at(source, build):
    with pytest.raises(RuntimeError, match="download_and_prepare"):
        _ = build(source).skipped


def test_foreign_files_and_second_copies_are_no_clips_and_are_told(copy, build, messages):
    one = fake.mp4_path(copy, "01-01-01-01-01-01-01")
    for name in ("01-01-01-02-01-01-01", "01-01-09-01-01-01-01", "01-01-01-01-01-01-25", "01-01-01-01-01-01", "film"):
        shutil.copy(one, one.with_name(f"{name}.mp4"))
    (one.parent / f"._{one.name}").write_bytes(b"\0")
    (copy / "__MACOSX").mkdir()
    (copy / "__MACOSX" / one.name).write_bytes(b"\0")
    (copy / "second").mkdir()
    shutil.copy(one, copy / "second" / one.name)
    dataset = undecoded(load(build(copy)))
    assert ids(dataset) == sorted(fake.LOOKS)
    assert dataset[0]["video"]["path"] == str(one)
    assert "6 mp4 files are not clips of RAVDESS" in messages()
    assert "Actor_01/film.mp4" in messages()


def test_the_other_modalities_and_the_songs_are_not_complained_about(source, build, messages):
    load(build(source))
    assert "mp4 files" not in messages()


# The cache


def add_a_clip(copy: Path) -> None:
    fake.make_recording(copy, "01-01-07-01-01-01-02", 700, "white")


def remove_a_clip(copy: Path) -> None:
    fake.mp4_path(copy, BROKEN).unlink()


@pytest.mark.parametrize(("change", "count"), [(add_a_clip, 8), (remove_a_clip, 6)])
def test_a_changed_copy_is_read_anew(copy, build, change, count):
    assert len(load(build(copy))) == 7
    change(copy)
    assert len(load(build(copy))) == count


def test_a_replaced_file_is_noticed_and_other_files_do_not_matter(copy, build):
    first = build(copy)
    fake.mp4_path(copy, "02" + BROKEN[2:]).unlink()
    assert build(copy).cache_dir == first.cache_dir
    fake.mp4_path(copy, BROKEN).write_bytes(b"\0\0\0\x20ftypmp42")
    assert build(copy).cache_dir != first.cache_dir


def test_no_path_of_this_machine_stands_in_the_dataset_info(source, build):
    builder = build(source)
    load(builder)
    files = sorted(Path(builder.cache_dir).glob("*.json"))
    assert [file.name for file in files] == ["dataset_info.json", "skipped.json"]
    assert all(source.parent.name not in file.read_text() for file in files)
    assert source.parent.name not in builder.config_id


# Parquet


def test_rows_go_through_parquet(source, build, tmp_path):
    dataset = load(build(source))
    dataset.to_parquet(tmp_path / "rows.parquet")
    back = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "rows.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert back.features == dataset.features
    assert undecoded(back)[:] == undecoded(dataset)[:]


def test_a_push_embeds_the_recordings_and_the_order_stays(source, build):
    need("video-embedding")
    dataset = load(build(source))
    embedded = dataset.with_format("arrow").map(embed_table_storage, batched=True, batch_size=2).with_format(None)
    row = undecoded(embedded)[0]
    recording = fake.mp4_path(source, "01-01-01-01-01-01-01")
    assert row["audio"] == row["video"] == {"bytes": recording.read_bytes(), "path": recording.name}
    assert ids(embedded) == sorted(fake.LOOKS)


def run_main(*arguments: object) -> int:
    return script.main([str(argument) for argument in arguments])


def test_main_writes_parquet_that_refers_to_the_recordings(copy, tmp_path, capsys):
    damage_empty(fake.mp4_path(copy, BROKEN))
    output = tmp_path / "out"
    options = ("--allow-partial", "--on-error", "skip", "--cache-dir", tmp_path / "cache")
    assert run_main("--data-dir", copy, "--output", output, *options) == 0
    assert capsys.readouterr().out == f"{output}/train-00000-of-00001.parquet: 6 clips, 1 skipped\n"
    assert sorted(path.name for path in output.iterdir()) == ["skipped.json", "train-00000-of-00001.parquet"]
    assert [entry["clip_id"] for entry in json.loads((output / "skipped.json").read_text())] == [BROKEN]
    dataset = datasets.load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache"))
    assert dataset.features == script.FEATURES
    assert ids(dataset) == sorted(set(fake.LOOKS) - {BROKEN})
    row = dataset[ids(dataset).index("01-01-03-02-02-02-24")]
    assert loudest_hertz(row["audio"].get_all_samples().data[0], 16000) == pytest.approx(950, abs=5)
    assert row["video"][0].float().mean((1, 2)).tolist() == pytest.approx([0xD0, 0xD0, 0x20], abs=12)


def test_main_says_in_one_line_what_is_wrong_and_writes_nothing(source, tmp_path, capsys):
    output = tmp_path / "out"
    assert run_main("--data-dir", source, "--output", output, "--cache-dir", tmp_path / "cache") == 1
    said = capsys.readouterr().err
    assert said.startswith("build_ravdess.py: This copy of RAVDESS is not complete. It has 7 of 1440 clips.")
    assert said.count("\n") == 1
    assert not output.exists()


def test_main_without_a_source_is_a_misuse(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        run_main("--output", tmp_path)
    assert exit_.value.code == 2
    assert "--data-dir --download is required" in capsys.readouterr().err


# Downloads, from a server on this machine


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(source, tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder that is served in place of Zenodo, with the archives of two actors."""
    folder = tmp_path / "served"
    folder.mkdir()
    published = {}
    for actor in (1, 12):
        archive = folder / f"Video_Speech_Actor_{actor:02d}.zip"
        fake.write_archive(source, actor, archive)
        published[actor] = (hashlib.md5(archive.read_bytes()).hexdigest(), archive.stat().st_size)
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    name = script.ARCHIVE_URL.rpartition("/")[2]
    monkeypatch.setattr(script, "ARCHIVE_URL", f"http://127.0.0.1:{server.server_port}/{name}")
    monkeypatch.setattr(script, "ARCHIVES", published)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_gives_the_rows_of_a_local_copy(source, server, build):
    dataset = load(build(None, download=True))
    local = load(build(source)).filter(lambda speaker: speaker in ("Actor_01", "Actor_12"), input_columns="speaker")
    texts = ["clip_id", "speaker", "session", "gender", "emotion", "transcript"]
    assert dataset.select_columns(texts)[:] == local.select_columns(texts)[:]
    assert len(dataset) == 4
    row = dataset[ids(dataset).index("01-01-06-01-02-01-12")]
    assert loudest_hertz(row["audio"].get_all_samples().data[0], 16000) == pytest.approx(500, abs=5)
    assert row["video"][0].float().mean((1, 2)).tolist() == pytest.approx([0xD0, 0x20, 0x20], abs=12)


def test_a_damaged_archive_is_noticed_by_its_checksum(server, build):
    archive = server / "Video_Speech_Actor_12.zip"
    archive.write_bytes(archive.read_bytes()[:-1] + b"!")
    with pytest.raises(RuntimeError, match=r"Video_Speech_Actor_12\.zip arrived with \d+ bytes and MD5") as error:
        build(None, download=True).download_and_prepare()
    assert "force_redownload" in str(error.value)


def test_a_failed_download_says_what_was_tried_and_what_to_do_by_hand(server, build):
    (server / "Video_Speech_Actor_01.zip").unlink()
    with pytest.raises(RuntimeError, match="Downloading RAVDESS failed") as error:
        build(None, download=True).download_and_prepare()
    message = str(error.value)
    assert "such as http" in message and "Video_Speech_Actor_01.zip" in message
    assert "unpack them into one folder" in message
    assert error.value.__cause__ is not None


def test_a_download_is_refused_beside_a_copy_and_in_streaming(source, build):
    with pytest.raises(ValueError, match="not both"):
        build(source, download=True).download_and_prepare()
    with pytest.raises(ValueError, match="does not stream"):
        build(None, download=True).as_streaming_dataset()
