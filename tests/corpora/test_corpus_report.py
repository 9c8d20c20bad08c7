"""What a corpus holds, counted, printed, drawn and written down."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, load_dataset
from fake_iemocap import full_tree
from media_builders import make_clip

from foal_hf.corpora import load_corpus
from foal_hf.corpora.report import CorpusReport, corpus_report, inspect_corpus, prepare_corpus
from foal_hf.corpora.schema import undecoded
from foal_hf.plots.corpus import draw_corpus, plot_corpus


# Published counts of IEMOCAP with excited merged into happy.
IEMOCAP_TABLE = """\
| session | happy | neutral | sad | angry | total | female | male |
| --- | --- | --- | --- | --- | --- | --- | --- |
| Ses01 | 278 | 384 | 194 | 229 | 1085 | 528 | 557 |
| Ses02 | 327 | 362 | 197 | 137 | 1023 | 481 | 542 |
| Ses03 | 286 | 320 | 305 | 240 | 1151 | 522 | 629 |
| Ses04 | 303 | 258 | 143 | 327 | 1031 | 528 | 503 |
| Ses05 | 442 | 384 | 245 | 170 | 1241 | 590 | 651 |
| all | 1636 | 1708 | 1084 | 1103 | 5531 | 2649 | 2882 |
"""
TABLE = """\
file_name,emotion,speaker,gender,partition,start_seconds,end_seconds
one.mp4,sad,ann,f,train,,
two.mp4,happy,ben,m,train,0.3,
long.mkv,sad,cat,f,test,1.25,8
long.mkv,happy,cat,f,test,3,3.5
gone.mp4,happy,ben,m,train,,
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    make_clip(folder / "one.mp4", audio=None, video="color=c=red:s=46x34:r=25:d=1.2")
    make_clip(folder / "two.mp4", audio=None, video="color=c=red:s=46x34:r=25:d=2")
    (folder / "long.mkv").write_bytes(b"\x1a\x45\xdf\xa3")  # never opened: its rows say where they end
    (folder / "metadata.csv").write_text(TABLE)
    return folder


@pytest.fixture(scope="module")
def report(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CorpusReport:
    return inspect_corpus("folder", folder, cache_dir=tmp_path_factory.mktemp("cache"), progress=False)


def test_clips_are_counted_by_class_split_speaker_and_gender(report: CorpusReport) -> None:
    assert report.total.total == 4
    assert report.total.by_class == {"happy": 2, "sad": 2} and report.total.by_gender == {"female": 3, "male": 1}
    assert {kind: {name: counts.total for name, counts in found.items()} for kind, found in report.groups.items()} == {
        "split": {"train": 2, "test": 2},
        "session": {},
        "gender": {"female": 3, "male": 1},
        "speaker": {"ann": 1, "ben": 1, "cat": 2},
    }
    assert report.groups["speaker"]["ann"].by_class == {"happy": 0, "sad": 1}


def test_lengths_come_from_the_row_or_else_from_the_file(report: CorpusReport) -> None:
    assert sorted(report.seconds) == pytest.approx([0.5, 1.2, 1.7, 6.75])
    summary = report.length_summary()
    assert summary["histogram"] == [1, 2, 0, 0, 0, 0, 1]
    assert summary["longest"] == 6.75 and summary["median"] == pytest.approx(1.45)


def test_a_missing_file_is_listed_with_its_clip(report: CorpusReport, folder: Path) -> None:
    assert report.skipped == [{"clip_id": "gone.mp4", "reason": f"{folder / 'gone.mp4'}: no such file"}]
    assert "1 clips are skipped:\n\n- gone.mp4: " in report.render()


def test_files_that_are_lost_after_loading_are_listed_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sad").mkdir()
    for name in ("a", "b"):
        (tmp_path / "sad" / f"{name}.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    corpus = load_corpus("folder", tmp_path, validation_fraction=0.0, test_fraction=0.0, cache_dir=tmp_path / ".cache")
    (tmp_path / "sad" / "a.mp4").unlink()
    report = corpus_report(corpus, progress=False)
    assert report.missing == [{"clip_id": "sad/a.mp4", "reason": f"{tmp_path / 'sad/a.mp4'}: no such file"}]
    assert report.seconds == []  # the other one is no more than a header
    assert "The lengths of the clips are not known." in report.render()


def test_the_report_is_json(report: CorpusReport) -> None:
    text = json.loads(json.dumps(report.as_dict()))
    assert text["total"]["by_class"] == {"happy": 2, "sad": 2}
    assert text["groups"]["split"]["test"]["by_gender"] == {"female": 2}
    assert text["seconds"]["num_known"] == 4 and text["skipped"][0]["clip_id"] == "gone.mp4"


def test_the_report_prints_a_table_for_every_way_to_count(report: CorpusReport) -> None:
    printed = report.render()
    assert printed.startswith("4 clips, 3 speakers\n")
    assert "| split | happy | sad | total | female | male |\n| --- | --- | --- | --- | --- | --- |\n" in printed
    assert "| train | 1 | 1 | 2 | 1 | 1 |\n| test | 1 | 1 | 2 | 2 | 0 |\n| all | 2 | 2 | 4 | 3 | 1 |" in printed
    assert "| ann | 0 | 1 | 1 | 1 | 0 |" in printed
    assert f"   1 s {'#' * 40} 2\n" in printed


def test_many_speakers_are_not_all_printed(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    lines = [f"a.mp4,sad,s{speaker:02d},{speaker}" for speaker in range(37)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,emotion,speaker,start_seconds", *lines]))
    corpus = load_corpus("folder", tmp_path, validation_fraction=0.0, test_fraction=0.0, cache_dir=tmp_path / "cache")
    printed = corpus_report(corpus, read_headers=False, progress=False).render()
    assert "| s29 | 1 | 1 |\n| and 7 more |  |  |\n| all | 37 | 37 |" in printed


def test_the_picture_shows_every_class_of_every_group(report: CorpusReport, tmp_path: Path) -> None:
    counts, lengths = draw_corpus(report, title="Mine").axes
    assert [bars.get_label() for bars in counts.containers] == ["happy", "sad"]
    assert [[bar.get_height() for bar in bars] for bars in counts.containers] == [[0, 1, 1], [1, 0, 1]]
    assert [tick.get_text() for tick in counts.get_xticklabels()] == ["ann", "ben", "cat"]
    assert sum(bar.get_height() for bar in lengths.patches) == 4
    assert plot_corpus(report, tmp_path / "new" / "corpus.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"file name ending in .png"):
        plot_corpus(report, tmp_path / "corpus.gif")


def test_prepared_rows_refer_to_the_media_and_do_not_hold_them(folder: Path, tmp_path: Path) -> None:
    options = {"on_error": "skip", "cache_dir": tmp_path / "cache"}
    report = prepare_corpus("folder", folder, tmp_path / "rows", progress=False, **options)
    files = {path.name for path in (tmp_path / "rows").iterdir()}
    assert files == {"train-00000-of-00001.parquet", "test-00000-of-00001.parquet", "counts.json"}
    counts = json.loads((tmp_path / "rows" / "counts.json").read_text())
    assert counts["total"]["total"] == 4 and counts["media"] == "paths of this machine"
    assert report.length_summary() == inspect_corpus("folder", folder, progress=False, **options).length_summary()
    loaded = load_dataset("parquet", data_dir=str(tmp_path / "rows"), cache_dir=str(tmp_path / "cache"))
    direct = load_corpus("folder", folder, split=None, **options)
    assert isinstance(loaded, DatasetDict) and isinstance(direct, DatasetDict)
    for split in ("train", "test"):
        again = Dataset.from_parquet(
            str(tmp_path / "rows" / f"{split}-00000-of-00001.parquet"), cache_dir=str(tmp_path / "cache")
        )
        assert again.features == loaded[split].features == direct[split].features
        assert list(undecoded(loaded[split])) == list(undecoded(direct[split]))


def test_a_full_copy_of_iemocap_has_the_published_counts(tmp_path: Path) -> None:
    options = {"cache_dir": tmp_path / "cache", "progress": False}
    report = prepare_corpus("iemocap", full_tree(tmp_path), tmp_path / "rows", **options)
    assert IEMOCAP_TABLE in report.render() + "\n"
    assert len(report.seconds) == 5531
