"""Clips of a corpus as files of their own: what is in them, and what a second run makes."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from media_builders import (
    BEEP_START,
    FRAMES_PER_SECOND,
    HEIGHT,
    WIDTH,
    beep_start,
    clock_seconds,
    loudest_hertz,
    make_clip,
    run_ffmpeg,
)

from foal_hf.corpora import materialize as module
from foal_hf.corpora.materialize import materialize
from foal_hf.corpora.schema import corpus_features
from foal_hf.foal_net.media_foal_net import Clip, read_clip
from foal_hf.foal_net.sources_foal_net import MediaError


FRAME_SECONDS = 1 / FRAMES_PER_SECOND


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A film that tells the time, and beeps; the same without its sound; a tone; two colours side by side."""
    folder = tmp_path_factory.mktemp("media")
    halves = f"color=c=red:s=120x90:r={FRAMES_PER_SECOND}:d=1,drawbox=x=60:w=60:h=90:color=blue:t=fill"
    return {
        "clock": str(make_clip(folder / "clock.mp4")),
        "silent": str(make_clip(folder / "silent.mp4", audio=None)),
        "tone": str(make_clip(folder / "tone.wav", video=None, audio="sine=f=523:r=16000:d=2")),
        "halves": str(make_clip(folder / "halves.mp4", video=halves, audio=None)),
    }


def row(clip_id: str, **columns: Any) -> dict[str, Any]:
    empty = dict.fromkeys(corpus_features([]))
    return {**empty, "emotion": "sad", **columns, "clip_id": clip_id}


def film(clip_id: str, path: str, **columns: Any) -> dict[str, Any]:
    return row(clip_id, audio=path, video=path, **columns)


def make(rows: Any, folder: Path, **options: Any) -> datasets.Dataset:
    return materialize(rows, folder, num_workers=1, progress=False, **options)


def read(made: dict[str, Any], frames_per_second: float = FRAMES_PER_SECOND) -> Clip:
    return read_clip(audio=made["audio"], video=made["video"], frames_per_second=frames_per_second, max_seconds=None)


def table(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]


def file_times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "clips").iterdir()}


# What is in a file


def test_a_clip_has_the_frames_and_the_sound_of_its_range(media: dict[str, str], tmp_path: Path) -> None:
    (made,) = make([film("a", media["clock"], start_seconds=0.9, end_seconds=2.3)], tmp_path / "out")
    clip = read(made)
    assert clip.frames is not None and clip.waveform is not None
    assert made["video"].metadata.num_frames == 42
    shown = clock_seconds(clip.frames[:42])
    for index, seconds in enumerate(shown):
        moment = 0.9 + index * FRAME_SECONDS
        is_white = 1.5 - 1e-6 < moment < 1.7 - 1e-6
        assert seconds == (float("inf") if is_white else pytest.approx(moment, abs=FRAME_SECONDS + 1e-6))
    assert beep_start(clip.waveform, 16_000) == pytest.approx(BEEP_START - 0.9, abs=0.005)
    assert 1.4 <= len(clip.waveform) / 16_000 <= 1.4 + 1024 / 16_000


def test_sound_of_another_file_begins_where_the_row_says(media: dict[str, str], tmp_path: Path) -> None:
    """As in a corpus of long films with a sound file for each sentence."""
    places = {"start_seconds": 2.0, "end_seconds": 2.5, "audio_start_seconds": 0.0}
    (made,) = make([row("a", audio=media["tone"], video=media["silent"], **places)], tmp_path / "out")
    clip = read(made)
    assert clip.waveform is not None and clip.frames is not None
    assert loudest_hertz(clip.waveform, 16_000) == pytest.approx(523, abs=2.5)
    assert 0.5 <= len(clip.waveform) / 16_000 <= 0.5 + 1024 / 16_000
    assert clock_seconds(clip.frames)[0] == pytest.approx(2.0, abs=FRAME_SECONDS + 1e-6)


@pytest.mark.parametrize(("box", "colour"), [((0, 0, 60, 90), 0), ((60, 0, 120, 90), 2)])
def test_the_crop_box_is_cut_out(media: dict[str, str], tmp_path: Path, box: tuple[int, ...], colour: int) -> None:
    (made,) = make([row("a", video=media["halves"], crop_box=list(box))], tmp_path / "out")
    frames = read(made).frames
    assert frames is not None and frames.shape[2:] == (90, 60)
    levels = frames[:, :, 5:-5, 5:-5].float().mean((0, 2, 3))
    assert levels[colour] > 220 and levels.sum() - levels[colour] < 40


@pytest.mark.parametrize(
    ("height", "box", "size"),
    [
        (240, None, (HEIGHT, WIDTH)),  # not made larger
        (23, None, (22, 30)),
        (240, [3, 1, 34, 24], (22, 30)),  # H.264 takes even edges only
        (30, None, (30, 40)),
    ],
)
def test_pictures_become_no_higher_than_asked_and_keep_their_shape(
    media: dict[str, str], tmp_path: Path, height: int, box: list[int] | None, size: tuple[int, int]
) -> None:
    rows = [row("a", video=media["silent"], end_seconds=0.2, crop_box=box)]
    (made,) = make(rows, tmp_path / "out", height=height)
    frames = read(made).frames
    assert frames is not None and frames.shape == (6, 3, *size)


def test_a_frame_rate_can_be_asked_for(media: dict[str, str], tmp_path: Path) -> None:
    rows = [row("a", video=media["silent"], start_seconds=0.5, end_seconds=1.5)]
    (made,) = make(rows, tmp_path / "out", frames_per_second=5.0)
    assert made["video"].metadata.average_fps == pytest.approx(5.0)
    frames = read(made, 5.0).frames
    assert frames is not None
    assert clock_seconds(frames) == pytest.approx([0.5, 0.7, 0.9, 1.1, 1.3], abs=FRAME_SECONDS + 1e-6)


def test_long_clips_are_read_in_pieces_that_fit_together(
    media: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row("a", video=media["silent"], start_seconds=0.31)]
    (whole,) = make(rows, tmp_path / "whole")
    monkeypatch.setattr(module, "_SEGMENT_SECONDS", 0.17)
    (pieced,) = make(rows, tmp_path / "pieced")
    whole_frames, pieced_frames = read(whole).frames, read(pieced).frames
    assert whole_frames is not None and pieced_frames is not None
    assert len(whole_frames) == 81
    torch.testing.assert_close(pieced_frames, whole_frames, atol=4, rtol=0)


def test_one_modality_stays_alone(media: dict[str, str], tmp_path: Path) -> None:
    heard, seen = make([row("heard", audio=media["tone"]), row("seen", video=media["silent"])], tmp_path / "out")
    assert heard["video"] is None and read(heard).modalities == ("audio",)
    assert seen["audio"] is None and read(seen).modalities == ("video",)


def test_a_film_that_begins_late_stays_beside_its_sound(media: dict[str, str], tmp_path: Path) -> None:
    late = tmp_path / "late.mkv"
    run_ffmpeg("-itsoffset", 0.5, "-i", media["silent"], "-i", media["tone"], "-c", "copy", late)
    (made,) = make([film("a", str(late), end_seconds=1.0)], tmp_path / "out")
    clip = read(made)
    assert clip.frames is not None and clip.waveform is not None
    assert clock_seconds(clip.frames)[:17] == pytest.approx([0.0] * 15 + [0.0, FRAME_SECONDS], abs=FRAME_SECONDS + 1e-6)
    assert clock_seconds(clip.frames)[29] == pytest.approx(14 * FRAME_SECONDS, abs=FRAME_SECONDS + 1e-6)


# What comes back


def test_rows_keep_everything_but_their_media_and_places(media: dict[str, str], tmp_path: Path) -> None:
    features = corpus_features(["sad", "happy"])
    place = {"start_seconds": 0.5, "end_seconds": 1.0, "audio_start_seconds": 0.25, "crop_box": [0, 0, 31, 29]}
    said = {
        "speaker": "s",
        "session": "1",
        "gender": "female",
        "valence": 1.5,
        "transcript": "caf\xe9",
        "partition": "test",
    }
    rows = datasets.Dataset.from_list(
        [film("b", media["clock"], **place, **said) | {"emotion": "happy"}, film("a", media["clock"], end_seconds=0.5)],
        features=features,
    )
    made = make(rows, tmp_path / "out")
    assert made.features == features
    plain = list(
        made.cast_column("audio", datasets.Audio(decode=False)).cast_column("video", datasets.Video(decode=False))
    )
    first = {"path": str(tmp_path / "out" / "clips" / "b.mp4"), "bytes": None}
    assert plain[0] == {**row("b"), **said, "emotion": 1, "audio": first, "video": first}
    assert [made_row["clip_id"] for made_row in plain] == ["b", "a"]


def test_the_folder_is_a_corpus_with_relative_names(media: dict[str, str], tmp_path: Path) -> None:
    features = corpus_features(["sad", "happy"])
    rows = datasets.Dataset.from_list([film("a", media["clock"], end_seconds=0.5, speaker="s")], features=features)
    make(rows, tmp_path / "out")
    empty = {name: value for name, value in row("a").items() if name not in ("audio", "video")}
    assert table(tmp_path / "out") == [{"file_name": "clips/a.mp4", **empty, "emotion": "sad", "speaker": "s"}]
    assert json.loads((tmp_path / "out" / "skipped.json").read_text()) == []
    for path in (tmp_path / "out").glob("*.json*"):
        assert str(tmp_path) not in path.read_text()


def test_decoders_bytes_and_paths_are_the_same_to_it(media: dict[str, str], tmp_path: Path) -> None:
    content = Path(media["clock"]).read_bytes()
    stored = {"path": "clock.mp4", "bytes": content}
    as_path = film("path", media["clock"], end_seconds=0.5)
    as_bytes = row("bytes", audio=stored, video=stored, end_seconds=0.5)
    as_decoders = dict(
        datasets.Dataset.from_list([film("d", media["clock"], end_seconds=0.5)], corpus_features(["sad"]))[0]
    )
    made = make([as_path, as_bytes, {**as_decoders, "emotion": "sad"}], tmp_path / "out")
    first, *others = (read(made_row) for made_row in made)
    for other in others:
        assert torch.equal(first.frames, other.frames) and torch.equal(first.waveform, other.waveform)


def test_a_stream_of_rows_can_be_written(media: dict[str, str], tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list([film("a", media["clock"], end_seconds=0.5)], features=corpus_features(["sad"]))
    made = make(rows.to_iterable_dataset(), tmp_path / "out")
    assert read(made[0]).modalities == ("audio", "video")


def test_any_clip_id_gets_a_file_of_its_own(media: dict[str, str], tmp_path: Path) -> None:
    clip_ids = ["a/b c.mp4@1.5", "a_b_c.mp4_1.5", "../../up", ".hidden", "Twin", "twin", "d\xe9j\xe0", "%d", "x" * 300]
    rows = [row(clip_id, video=media["silent"], end_seconds=0.1) for clip_id in clip_ids]
    made = make(rows, tmp_path / "out")
    assert made["clip_id"][:] == clip_ids
    names = [entry["file_name"] for entry in table(tmp_path / "out")]
    assert len({name.casefold() for name in names}) == len(clip_ids)
    assert all((tmp_path / "out" / name).parent == tmp_path / "out" / "clips" for name in names)
    assert sorted(os.listdir(tmp_path / "out" / "clips")) == sorted(name.removeprefix("clips/") for name in names)


# Going on, and beginning anew


@pytest.fixture
def rows(media: dict[str, str]) -> list[dict[str, Any]]:
    return [
        row(f"clip{start}", video=media["silent"], start_seconds=start / 10, end_seconds=start / 10 + 0.2)
        for start in range(5)
    ]


def test_a_second_run_makes_only_what_is_missing(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    make(rows, tmp_path / "out")
    before = file_times(tmp_path / "out")
    (tmp_path / "out" / "clips" / "clip1.mp4").unlink()
    (tmp_path / "out" / "clips" / "clip2.mp4").write_bytes(b"cut off")
    made = make(rows, tmp_path / "out")
    after = file_times(tmp_path / "out")
    assert {name for name in before if after[name] != before[name]} == {"clip1.mp4", "clip2.mp4"}
    assert all(read(made_row).modalities == ("video",) for made_row in made)


def test_a_killed_run_goes_on_where_it_stopped(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file, written = module.write_file, []

    def killed_at_the_third(path: Path, content: bytes) -> None:
        if path.suffix == ".mp4":
            if len(written) == 2:
                raise KeyboardInterrupt
            written.append(path.name)
        write_file(path, content)

    with monkeypatch.context() as context:
        context.setattr(module, "write_file", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            make(rows, tmp_path / "out")
    assert not (tmp_path / "out" / "metadata.jsonl").exists()
    before = file_times(tmp_path / "out")
    assert sorted(before) == sorted(written) == ["clip0.mp4", "clip1.mp4"]

    with (tmp_path / "out" / "materialized.jsonl").open("a") as manifest:
        manifest.write('{"file_name": "clips/clip2.mp4", "ke')  # the line it was writing
    assert make(rows, tmp_path / "out")["clip_id"][:] == [f"clip{index}" for index in range(5)]
    after = file_times(tmp_path / "out")
    assert {name: after[name] for name in before} == before and len(after) == 5
    make(rows, tmp_path / "out")
    assert file_times(tmp_path / "out") == after


def test_a_table_never_stands_beside_clips_of_two_settings(
    rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(rows, tmp_path / "out")
    calls = []

    def killed_at_the_second(*arguments: Any) -> bytes:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode_clip(*arguments)

    encode_clip = module._encode_clip
    monkeypatch.setattr(module, "_encode_clip", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        make(rows, tmp_path / "out", height=20)
    assert not (tmp_path / "out" / "metadata.jsonl").exists()


def test_an_error_in_one_film_stops_the_others_at_the_clip_at_hand(
    rows: list[dict[str, Any]], media: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, stopped, encoded = threading.Event(), threading.Event(), []
    shutdown = ThreadPoolExecutor.shutdown

    def shut(pool: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        stopped.set()
        shutdown(pool, wait=wait, cancel_futures=cancel_futures)

    def encode(clip: Any, *others: Any) -> bytes:
        if clip.clip_id == "bad":
            assert begun.wait(60)
            raise MediaError("bad", "is bad.")
        encoded.append(clip.clip_id)
        begun.set()
        assert stopped.wait(60)
        return b"clip"

    monkeypatch.setattr(module, "_encode_clip", encode)
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut)
    with pytest.raises(MediaError, match="bad: bad: is bad"):
        materialize([*rows, film("bad", media["clock"])], tmp_path / "out", num_workers=2, progress=False)
    assert encoded == ["clip0"]


@pytest.mark.parametrize("options", [{"height": 20}, {"frames_per_second": 10.0}])
def test_another_setting_makes_all_files_anew(
    rows: list[dict[str, Any]], tmp_path: Path, options: dict[str, Any]
) -> None:
    make(rows, tmp_path / "out")
    before = file_times(tmp_path / "out")
    (made, *_) = make(rows, tmp_path / "out", **options)
    after = file_times(tmp_path / "out")
    assert all(after[name] != before[name] for name in before)
    assert made["video"].metadata.height == options.get("height", HEIGHT)
    assert made["video"].metadata.average_fps == pytest.approx(options.get("frames_per_second", FRAMES_PER_SECOND))


def test_another_place_or_source_makes_that_file_anew(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(Path(rows[0]["video"]).read_bytes())
    rows[0]["video"] = str(source)
    make(rows, tmp_path / "out")
    before = file_times(tmp_path / "out")
    rows[3]["start_seconds"] += 0.05
    rows[4]["crop_box"] = [0, 0, 30, 30]
    os.utime(source, ns=(1, 1))
    make(rows, tmp_path / "out")
    after = file_times(tmp_path / "out")
    assert {name for name in before if after[name] != before[name]} == {"clip0.mp4", "clip3.mp4", "clip4.mp4"}


def test_fewer_rows_give_a_smaller_table_and_delete_nothing(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    make(rows, tmp_path / "out")
    before = file_times(tmp_path / "out")
    assert len(make(rows[:2], tmp_path / "out")) == 2
    assert [entry["clip_id"] for entry in table(tmp_path / "out")] == ["clip0", "clip1"]
    assert file_times(tmp_path / "out") == before


def test_several_workers_write_the_same_table(
    rows: list[dict[str, Any]], media: dict[str, str], tmp_path: Path
) -> None:
    rows += [film(f"film{index}", media["clock"], end_seconds=0.3) for index in range(3)]
    make(rows, tmp_path / "one")
    materialize(rows, tmp_path / "three", num_workers=3, progress=False)
    assert table(tmp_path / "three") == table(tmp_path / "one")
    assert len(file_times(tmp_path / "three")) == 8


# What cannot be done


@pytest.fixture
def with_faults(rows: list[dict[str, Any]], tmp_path: Path) -> list[dict[str, Any]]:
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(200))
    rows[1] |= {"video": str(tmp_path / "gone.mp4")}
    rows[2] |= {"start_seconds": 60.0, "end_seconds": 61.0}
    rows[3] |= {"video": str(tmp_path / "broken.mp4")}
    return rows


def test_a_clip_that_cannot_be_read_is_an_error_that_names_it(
    with_faults: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(MediaError, match=r"clip1: .*gone.mp4: no such file.*on_error=.skip."):
        make([with_faults[1]], tmp_path / "out")
    assert not (tmp_path / "out" / "metadata.jsonl").exists()


def test_clips_that_cannot_be_read_are_left_out_on_request_and_listed(
    with_faults: list[dict[str, Any]], tmp_path: Path
) -> None:
    made = make(with_faults, tmp_path / "out", on_error="skip")
    assert made["clip_id"][:] == ["clip0", "clip4"]
    assert [entry["clip_id"] for entry in table(tmp_path / "out")] == ["clip0", "clip4"]
    skipped = json.loads((tmp_path / "out" / "skipped.json").read_text())
    assert [entry["clip_id"] for entry in skipped] == ["clip1", "clip2", "clip3"]
    assert "no such file" in skipped[0]["reason"] and "has no video from 60 to" in skipped[1]["reason"]


def test_a_folder_of_something_else_is_left_alone(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="has other files; it is not changed"):
        make(rows, tmp_path)
    (tmp_path / "materialized.jsonl").write_text('{"made_by": "me"}\n')
    with pytest.raises(FileExistsError, match=r"was not written by foal_hf\.materialize"):
        make(rows, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["materialized.jsonl", "thesis.txt"]


def test_what_makes_no_sense_is_refused(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for options, message in (
        ({"height": 1}, "`height` must be at least 2 pixels, got 1"),
        ({"frames_per_second": 0.0}, "`frames_per_second` must be above 0, got 0.0"),
        ({"on_error": "ignore"}, "`on_error` must be 'raise' or 'skip', got 'ignore'"),
        ({"num_workers": 0}, "`num_workers` must be 1 or more, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            materialize(rows, tmp_path / "out", **options)
    with pytest.raises(ValueError, match=r"1 clip ids occur in more than one row \(clip0\)"):
        make([rows[0], rows[0]], tmp_path / "out")
    with pytest.raises(ValueError, match=r"unknown columns: strat_seconds \(did you mean start_seconds\?\)"):
        make([{"clip_id": "a", "video": "a.mp4", "strat_seconds": 1.0}], tmp_path / "out")
    with pytest.raises(ValueError, match="clip0 has neither `audio` nor `video`"):
        make([row("clip0")], tmp_path / "out")
    with pytest.raises(ValueError, match="`rows` is empty"):
        make([], tmp_path / "out")
    with pytest.raises(TypeError, match="a dataset of one split"):
        make(datasets.DatasetDict({"train": datasets.Dataset.from_list([{"clip_id": "a"}])}), tmp_path / "out")
    with pytest.raises(TypeError, match="`video` of a must be a path, a URL"):
        make([row("a", video=torch.zeros(3))], tmp_path / "out")
    assert not (tmp_path / "out").exists()
