"""The CREMA-D loading script on small copies with real media, and on one of full size."""

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
import fake_crema_d as fake
import pytest
from datasets.table import embed_table_storage
from media_builders import loudest_hertz
from requirements import need

from foal_hf.corpora.schema import corpus_features, undecoded


SCRIPT = Path(__file__).parents[2] / "dataset_scripts" / "crema_d" / "build_crema_d.py"


def import_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_of_{SCRIPT.stem}", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


script = import_script()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return fake.make_crema_d(tmp_path_factory.mktemp("crema_d") / "CREMA-D")


@pytest.fixture
def copy(source, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(source, tmp_path / "CREMA-D"))


@pytest.fixture
def build(tmp_path) -> Callable:
    def build(data_dir: Path | str | None, **options):
        options = {"allow_partial": True, "cache_dir": str(tmp_path / "cache"), **options}
        return script.CremaD(dataset_name="crema_d", data_dir=data_dir and str(data_dir), **options)

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


def test_a_row_says_what_the_file_name_and_the_actors_table_say(source, build):
    rows = {row["clip_id"]: row for row in undecoded(load(build(source)))}
    row = rows["1002_IEO_NEU_XX"]
    assert {name: value for name, value in row.items() if name not in ("audio", "video")} == {
        "clip_id": "1002_IEO_NEU_XX",
        "start_seconds": None,
        "end_seconds": None,
        "audio_start_seconds": 0.0,
        "crop_box": None,
        "speaker": "1002",
        "session": "fold_0",
        "gender": "female",
        "emotion": 4,
        "valence": None,
        "activation": None,
        "dominance": None,
        "transcript": "It's eleven o'clock.",
        "partition": None,
    }
    assert rows["1001_DFA_ANG_XX"]["gender"] == "male"
    assert rows["1001_DFA_ANG_XX"]["transcript"] == "Don't forget a jacket."


@pytest.mark.parametrize(
    ("clip_id", "emotion"),
    [
        ("1001_DFA_ANG_XX", "angry"),
        ("1001_IEO_HAP_HI", "happy"),
        ("1002_IEO_NEU_XX", "neutral"),
        ("1009_WSI_DIS_XX", "disgust"),
        ("1040_ITH_SAD_XX", "sad"),
        ("1091_WSI_FEA_XX", "fear"),
    ],
)
def test_a_row_has_the_sound_and_the_pictures_of_its_clip(source, build, clip_id, emotion):
    dataset = load(build(source))
    row = dataset[ids(dataset).index(clip_id)]
    assert dataset.features["emotion"].int2str(row["emotion"]) == emotion
    hertz, colour = fake.LOOKS[clip_id]
    samples = row["audio"].get_all_samples()
    assert samples.sample_rate == 16000
    assert loudest_hertz(samples.data[0], 16000) == pytest.approx(hertz, abs=5)
    seen = row["video"][3].float().mean((1, 2))
    assert seen.tolist() == pytest.approx(list(bytes.fromhex(colour[2:])), abs=12)


def test_the_columns_are_those_of_every_corpus(source, build):
    names = ["angry", "disgust", "fear", "happy", "neutral", "sad"]
    features = load(build(source)).features
    assert features == corpus_features(names)
    assert list(features) == list(corpus_features(names))


def test_rows_are_sorted_by_clip_id_whatever_the_file_system_says(source, build, monkeypatch):
    in_order = ids(load(build(source)))
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda *arguments: sorted(real(*arguments), reverse=True))
    reversed_listing = ids(build(source, on_error="skip").as_streaming_dataset(split="train"))
    assert in_order == reversed_listing == sorted(fake.LOOKS)


def test_streaming_gives_the_same_rows_in_the_same_order(source, build):
    builder = build(source)
    streamed = list(undecoded(builder.as_streaming_dataset(split="train")))
    assert streamed == list(undecoded(load(builder)))
    assert builder.skipped == []


def test_a_folder_around_the_copy_and_a_relative_one_do_too(copy, build, monkeypatch):
    monkeypatch.chdir(copy.parent.parent)
    (copy.parent / ".git").mkdir()
    dataset = load(build(copy.parent.name))
    monkeypatch.chdir("/")
    assert ids(dataset) == sorted(fake.LOOKS)
    assert Path(undecoded(dataset)[0]["audio"]["path"]) == copy / "AudioWAV" / "1001_DFA_ANG_XX.wav"
    assert dataset[0]["audio"].get_all_samples().data.shape[0] == 1


# Full size


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    return fake.make_full_crema_d(tmp_path_factory.mktemp("full"), fake.published_names())


@pytest.fixture(scope="module")
def full_rows(full, tmp_path_factory) -> dict[str, list]:
    builder = script.CremaD(data_dir=str(full), cache_dir=str(tmp_path_factory.mktemp("cache")))
    return undecoded(load(builder)).remove_columns(["audio", "video"]).to_dict()


def test_a_full_copy_has_the_published_numbers(full_rows):
    assert len(full_rows["clip_id"]) == len(set(full_rows["clip_id"])) == 7442
    names = ["angry", "disgust", "fear", "happy", "neutral", "sad"]
    by_emotion = Counter(names[label] for label in full_rows["emotion"])
    assert by_emotion == {"angry": 1271, "disgust": 1271, "fear": 1271, "happy": 1271, "neutral": 1087, "sad": 1271}
    by_actor = Counter(full_rows["speaker"])
    assert len(by_actor) == 91
    assert {actor: count for actor, count in by_actor.items() if count != 82} == {
        "1002": 81,
        "1008": 76,
        "1009": 76,
        "1019": 76,
        "1076": 81,
    }


def test_the_groups_share_no_actor_and_have_as_many_women_and_men(full_rows):
    actors = set(zip(full_rows["speaker"], full_rows["session"], full_rows["gender"], strict=True))
    assert len(actors) == 91
    assert Counter(gender for _, _, gender in actors) == {"female": 43, "male": 48}
    by_group = Counter((group, gender) for _, group, gender in actors)
    assert sorted({group for group, _ in by_group}) == [f"fold_{index}" for index in range(5)]
    assert {count for (_, gender), count in by_group.items() if gender == "female"} == {8, 9}
    assert {count for (_, gender), count in by_group.items() if gender == "male"} == {9, 10}


def test_the_groups_follow_the_rule_of_the_card(full_rows):
    dealt = [*fake.WOMEN, *(actor for actor in fake.ACTORS if actor not in fake.WOMEN)]
    group_of = dict(zip(full_rows["speaker"], full_rows["session"], strict=True))
    assert group_of == {actor: f"fold_{place % 5}" for place, actor in enumerate(dealt)}


def test_the_published_groups_are_the_actors_in_the_order_of_their_numbers(source, build):
    rows = load(build(source, folds="published"))
    expected = {"1001": 1, "1002": 1, "1009": 1, "1040": 3, "1076": 5, "1091": 5}
    assert dict(zip(rows["speaker"], rows["session"], strict=True)) == {
        actor: f"fold_{number}" for actor, number in expected.items()
    }
    card = SCRIPT.with_name("README.md").read_text(encoding="utf-8")
    groups = script._groups("published")
    assert sorted(groups) == fake.ACTORS
    for name in sorted(set(groups.values())):
        actors = [actor for actor in fake.ACTORS if groups[actor] == name]
        assert len(actors) == int(actors[-1]) - int(actors[0]) + 1 == (19 if name == "fold_5" else 18)
        women = len(set(actors) & set(fake.WOMEN))
        assert f"| `{name}` | {actors[0]} to {actors[-1]} | {women} |" in card
    with pytest.raises(ValueError, match=r"folds must be one of \['balanced', 'published'\]"):
        build(source, folds="random")


def test_the_card_names_the_groups_and_the_numbers():
    card = SCRIPT.with_name("README.md").read_text(encoding="utf-8")
    for fold in script.FOLDS:
        assert fold in card
    assert "7442" in card
    assert "1040_ITH_SAD_X.wav" in card
    for name in script.KNOWN_DEFECTS:
        assert name in card


# What is not complete


def test_a_partial_copy_is_refused_with_what_is_missing_by_actor_and_emotion(full, tmp_path, build):
    part = tmp_path / "part"
    shutil.copytree(full, part, copy_function=os.link)
    for name in ("1003_TAI_ANG_XX", "1003_IEO_SAD_LO", "1050_DFA_ANG_XX"):
        fake.wav_path(part, name).unlink()
        fake.flv_path(part, name).unlink()
    with pytest.raises(ValueError, match="7439 of 7442 clips") as error:
        build(part, allow_partial=False).download_and_prepare()
    message = str(error.value)
    assert "1003 2 of 82, 1050 1 of 82" in message
    assert "angry 2 of 1271, sad 1 of 1271" in message
    assert "1003_IEO_SAD_LO, 1003_TAI_ANG_XX, 1050_DFA_ANG_XX" in message
    assert "allow_partial=True" in message


def test_a_partial_copy_is_read_with_a_warning_where_that_is_allowed(source, build, messages):
    assert len(load(build(source))) == len(fake.LOOKS)
    assert "7 of 7442 clips" in messages()
    assert "Missing by actor: 1001 80 of 82, 1002 80 of 81, 1009 75 of 76" in messages()
    assert "all of 1003 1004 1005" in messages()


def test_without_the_actors_table_the_gender_is_unknown_only_where_that_is_allowed(copy, build, messages):
    (copy / "VideoDemographics.csv").unlink()
    with pytest.raises(ValueError, match=r"VideoDemographics\.csv is missing"):
        build(copy, allow_partial=False).download_and_prepare()
    assert set(undecoded(load(build(copy)))["gender"]) == {None}
    assert "Their gender is unknown" in messages()


def test_an_actor_whom_the_table_lacks_is_named(copy, build, messages):
    table = copy / "VideoDemographics.csv"
    table.write_text(table.read_text().replace('1002,33,"Female"', '1002,33,"Unknown"'))
    genders = dict(zip(*[undecoded(load(build(copy)))[column] for column in ("speaker", "gender")], strict=True))
    assert genders["1002"] is None
    assert genders["1009"] == "female"
    assert "no sex for 1 of the actors: 1002." in messages()


def test_a_table_with_other_columns_is_refused(copy, build):
    (copy / "VideoDemographics.csv").write_text("actor;sex\n1001;m\n")
    with pytest.raises(ValueError, match=r"\['actor;sex'\], not ActorID and Sex"):
        build(copy).download_and_prepare()


@pytest.mark.parametrize("folder", ["AudioWAV", "VideoFlash"])
def test_a_copy_without_sound_or_without_pictures_is_refused(copy, build, folder):
    shutil.rmtree(copy / folder)
    with pytest.raises(FileNotFoundError, match=f"has no folder {folder}"):
        build(copy).download_and_prepare()


def test_no_corpus_at_all_names_both_ways_to_it(build):
    with pytest.raises(ValueError, match="data_dir=") as error:
        build(None).download_and_prepare()
    assert "download=True" in str(error.value)
    assert "git clone https://github.com/CheyneyComputerScience/CREMA-D.git" in str(error.value)


def test_a_folder_that_does_not_exist_is_named(build, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not a folder: .*nowhere"):
        build(tmp_path / "nowhere").download_and_prepare()


def test_a_wrong_choice_of_on_error_is_refused_at_once(source, build):
    with pytest.raises(ValueError, match=r"on_error must be one of \['raise', 'skip'\], got 'ignore'"):
        build(source, on_error="ignore")


# What is broken


def damage_missing(copy: Path) -> str:
    fake.flv_path(copy, "1001_IEO_HAP_HI").unlink()
    return "VideoFlash/1001_IEO_HAP_HI.flv does not exist"


def damage_missing_sound(copy: Path) -> str:
    fake.wav_path(copy, "1040_ITH_SAD_XX").unlink()
    return "AudioWAV/1040_ITH_SAD_X.wav does not exist"


def damage_empty(copy: Path) -> str:
    fake.wav_path(copy, "1001_IEO_HAP_HI").write_bytes(b"")
    return "AudioWAV/1001_IEO_HAP_HI.wav is empty"


def damage_pointer(copy: Path) -> str:
    fake.flv_path(copy, "1001_IEO_HAP_HI").write_text(fake.LFS_POINTER)
    return "VideoFlash/1001_IEO_HAP_HI.flv is a Git LFS pointer"


def damage_kind(copy: Path) -> str:
    shutil.copy(fake.wav_path(copy, "1001_IEO_HAP_HI"), fake.flv_path(copy, "1001_IEO_HAP_HI"))
    return "VideoFlash/1001_IEO_HAP_HI.flv is not a flv file"


def damage_folder(copy: Path) -> str:
    fake.wav_path(copy, "1001_IEO_HAP_HI").unlink()
    fake.wav_path(copy, "1001_IEO_HAP_HI").mkdir()
    return "AudioWAV/1001_IEO_HAP_HI.wav cannot be opened (Is a directory)"


DAMAGES = [damage_missing, damage_missing_sound, damage_empty, damage_pointer, damage_kind, damage_folder]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_recording_is_an_error_that_names_clip_and_file(copy, build, damage):
    reason = damage(copy)
    with pytest.raises(ValueError, match="1 of 7 clips of CREMA-D cannot be read") as error:
        build(copy).download_and_prepare()
    assert reason in str(error.value)
    assert 'on_error="skip"' in str(error.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_recording_is_left_out_and_listed_where_that_is_asked_for(copy, build, damage, messages):
    reason = damage(copy)
    builder = build(copy, on_error="skip")
    clip_ids = ids(load(builder))
    (entry,) = builder.skipped
    assert reason in entry["reason"]
    assert set(clip_ids) == set(fake.LOOKS) - {entry["clip_id"]}
    assert "1 of 7 clips" in messages()


def test_many_broken_recordings_are_counted_and_the_first_named(copy, build):
    for name in fake.LOOKS:
        fake.wav_path(copy, name).write_text(fake.LFS_POINTER)
    with pytest.raises(ValueError, match="7 of 7 clips") as error:
        build(copy).download_and_prepare()
    assert "1001_DFA_ANG_XX" in str(error.value)
    assert "and 2 more" in str(error.value)


def test_what_was_left_out_is_still_known_when_the_cache_is_read(copy, build, monkeypatch):
    damage_empty(copy)
    before = build(copy, on_error="skip")
    load(before)
    after = build(copy, on_error="skip")
    monkeypatch.setattr(script.CremaD, "_split_generators", None)  # whoever reads the cache does not ask again
    assert len(load(after)) == 6
    assert after.skipped == before.skipped != []


def test_nothing_is_said_of_skipped_clips_before_any_was_looked_at(source, build):
    with pytest.raises(RuntimeError, match="download_and_prepare"):
        _ = build(source).skipped


def test_recordings_with_known_defects_stay_with_a_warning_or_go_where_that_is_asked_for(source, build, messages):
    assert "1076_MTI_SAD_XX" in ids(load(build(source)))
    assert "1076_MTI_SAD_XX (the video is very short" in messages()
    builder = build(source, skip_known_defects=True)
    assert "1076_MTI_SAD_XX" not in ids(load(builder))
    assert [entry["clip_id"] for entry in builder.skipped] == ["1076_MTI_SAD_XX"]


def test_foreign_files_are_no_clips_and_are_told(copy, build, messages):
    one = fake.wav_path(copy, "1001_DFA_ANG_XX")
    for name in ("1009_MTI_ANG_XX.wav", "1001_DFA_ANG_ZZ.wav", "1001_IEO_ANG_XX.wav", "1092_DFA_ANG_XX.wav", "x.wav"):
        shutil.copy(one, one.with_name(name))
    (copy / "AudioWAV" / "._1001_DFA_ANG_XX.wav").write_bytes(b"\0")
    (copy / "VideoFlash" / "1015_DFA_ANG_XX.mp4").write_bytes(b"\0")
    assert ids(load(build(copy))) == sorted(fake.LOOKS)
    assert "6 files are not recordings of CREMA-D" in messages()
    assert "AudioWAV/1001_DFA_ANG_ZZ.wav" in messages()


# The cache


def add_a_clip(copy: Path) -> None:
    fake.make_recording(copy, "1003_DFA_SAD_XX", 700, "white")


def remove_a_clip(copy: Path) -> None:
    fake.wav_path(copy, "1001_IEO_HAP_HI").unlink()
    fake.flv_path(copy, "1001_IEO_HAP_HI").unlink()


@pytest.mark.parametrize(("change", "count"), [(add_a_clip, 8), (remove_a_clip, 6)])
def test_a_changed_copy_is_read_anew(copy, build, change, count):
    assert len(load(build(copy))) == 7
    change(copy)
    assert len(load(build(copy))) == count


def test_a_file_that_was_replaced_and_a_changed_table_are_noticed(copy, build):
    first = build(copy)
    fake.wav_path(copy, "1001_IEO_HAP_HI").write_bytes(b"")
    second = build(copy)
    (copy / "VideoDemographics.csv").write_text('"ActorID","Sex"\n1001,"Female"\n')
    third = build(copy)
    assert len({first.cache_dir, second.cache_dir, third.cache_dir}) == 3


def test_an_unchanged_copy_is_not_read_again_and_other_files_do_not_matter(copy, build):
    first = build(copy)
    (copy / "AudioMP3" / "1002_DFA_ANG_XX.mp3").write_bytes(b"ID3")
    (copy / "README.md").write_text("changed")
    assert build(copy).cache_dir == first.cache_dir


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
    assert row["audio"] == {
        "bytes": fake.wav_path(source, "1001_DFA_ANG_XX").read_bytes(),
        "path": "1001_DFA_ANG_XX.wav",
    }
    assert row["video"] == {
        "bytes": fake.flv_path(source, "1001_DFA_ANG_XX").read_bytes(),
        "path": "1001_DFA_ANG_XX.flv",
    }
    assert ids(embedded) == sorted(fake.LOOKS)


def run_main(*arguments: object) -> int:
    return script.main([str(argument) for argument in arguments])


def test_main_writes_parquet_that_refers_to_the_recordings(copy, tmp_path, capsys):
    damage_empty(copy)
    output = tmp_path / "out"
    options = ("--allow-partial", "--on-error", "skip", "--cache-dir", tmp_path / "cache")
    assert run_main("--data-dir", copy, "--output", output, *options) == 0
    assert capsys.readouterr().out == f"{output}/train-00000-of-00001.parquet: 6 clips, 1 skipped\n"
    assert sorted(path.name for path in output.iterdir()) == ["skipped.json", "train-00000-of-00001.parquet"]
    assert [entry["clip_id"] for entry in json.loads((output / "skipped.json").read_text())] == ["1001_IEO_HAP_HI"]
    dataset = datasets.load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache"))
    assert dataset.features == script.FEATURES
    assert ids(dataset) == sorted(set(fake.LOOKS) - {"1001_IEO_HAP_HI"})
    row = dataset[ids(dataset).index("1040_ITH_SAD_XX")]
    assert loudest_hertz(row["audio"].get_all_samples().data[0], 16000) == pytest.approx(950, abs=5)
    assert row["video"][0].float().mean((1, 2)).tolist() == pytest.approx([0xD0, 0xD0, 0x20], abs=12)


def test_main_says_in_one_line_what_is_wrong_and_writes_nothing(source, tmp_path, capsys):
    output = tmp_path / "out"
    assert run_main("--data-dir", source, "--output", output, "--cache-dir", tmp_path / "cache") == 1
    said = capsys.readouterr().err
    assert said.startswith("build_crema_d.py: This copy of CREMA-D is not complete. It has 7 of 7442 clips.")
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
def server(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder that is served in place of the corpus' repository, which has only the clips of `fake.LOOKS`."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(script, "MEDIA_URL", url)
    monkeypatch.setattr(script, "TABLE_URL", url)
    monkeypatch.setattr(script, "TREE_URL", f"{url}/tree.json")
    monkeypatch.setattr(script, "published_clips", lambda: sorted(fake.LOOKS))
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_gives_the_rows_of_a_local_copy(source, server, build):
    for name in ("AudioWAV", "VideoFlash"):
        shutil.copytree(source / name, server / name)
    shutil.copy(source / "VideoDemographics.csv", server)
    dataset = load(build(None, download=True, allow_partial=False))
    local = load(build(source))
    texts = ["clip_id", "speaker", "session", "gender", "emotion", "transcript"]
    assert [dataset.select_columns(texts)[:], len(dataset)] == [local.select_columns(texts)[:], 7]
    row = dataset[ids(dataset).index("1040_ITH_SAD_XX")]
    assert loudest_hertz(row["audio"].get_all_samples().data[0], 16000) == pytest.approx(950, abs=5)
    assert row["video"][0].float().mean((1, 2)).tolist() == pytest.approx([0xD0, 0xD0, 0x20], abs=12)


def write_tree(folder: Path) -> None:
    """What the repository's list of files says: of each recording the hash of its pointer."""
    entries = [{"path": "AudioWAV", "sha": "0" * 40}]
    for path in [*folder.glob("AudioWAV/*"), *folder.glob("VideoFlash/*")]:
        sha, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
        pointer = fake.LFS_POINTER.replace("0" * 64, sha).replace("size 265922", f"size {size}").encode()
        name = hashlib.sha1(b"blob " + str(len(pointer)).encode() + b"\0" + pointer).hexdigest()
        entries.append({"path": f"{path.parent.name}/{path.name}", "sha": name})
    (folder / "tree.json").write_text(json.dumps({"tree": entries}))


def test_a_damaged_download_is_noticed_and_repeated(source, server, build, messages):
    for name in ("AudioWAV", "VideoFlash"):
        shutil.copytree(source / name, server / name)
    shutil.copy(source / "VideoDemographics.csv", server)
    write_tree(server)
    damaged = fake.flv_path(server, "1001_DFA_ANG_XX")
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])  # cut, but with the head of an flv
    with pytest.raises(ValueError, match=r"1 of 14 downloaded files .* deleted: VideoFlash/1001_DFA_ANG_XX\.flv"):
        build(None, download=True).download_and_prepare()
    damaged.write_bytes(whole)
    assert len(load(build(None, download=True))) == 7
    assert "checksum" not in messages()


def test_a_download_without_checksums_says_so(source, server, build, messages):
    for name in ("AudioWAV", "VideoFlash"):
        shutil.copytree(source / name, server / name)
    shutil.copy(source / "VideoDemographics.csv", server)
    assert len(load(build(None, download=True))) == 7
    assert "were not compared with checksums" in messages()


def test_pointers_that_a_server_sends_instead_of_recordings_are_noticed(source, server, build):
    for name in ("AudioWAV", "VideoFlash"):
        shutil.copytree(source / name, server / name)
    shutil.copy(source / "VideoDemographics.csv", server)
    fake.flv_path(server, "1002_IEO_NEU_XX").write_text(fake.LFS_POINTER)
    with pytest.raises(ValueError, match=r"1002_IEO_NEU_XX \(.* is a Git LFS pointer"):
        build(None, download=True).download_and_prepare()


def test_a_failed_download_says_what_was_tried_and_what_to_do_by_hand(server, build):
    with pytest.raises(RuntimeError, match="Downloading CREMA-D failed") as error:
        build(None, download=True).download_and_prepare()
    message = str(error.value)
    assert "AudioWAV/1001_DFA_ANG_XX.wav" in message
    assert "git lfs install" in message
    assert error.value.__cause__ is not None


def test_a_download_is_refused_beside_a_copy_and_in_streaming(source, build):
    with pytest.raises(ValueError, match="not both"):
        build(source, download=True).download_and_prepare()
    with pytest.raises(ValueError, match="does not stream"):
        build(None, download=True).as_streaming_dataset()
