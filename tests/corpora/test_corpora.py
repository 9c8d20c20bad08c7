"""Corpora by name: the dataset scripts wherever they lie, their options, and `load_dataset` after `import foal_hf`."""

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, IterableDataset
from fake_iemocap import SMALL_TURNS, small_tree
from media_builders import loudest_hertz

from foal_hf import resources
from foal_hf.corpora import FEATURES, available_corpora, load_corpus, make_builder
from foal_hf.corpora import scripts as corpus_scripts
from foal_hf.corpora.schema import undecoded
from foal_hf.data import ClipDataset
from foal_hf.experiments.quickstart import make_tiny_processor


SCRIPT = """
from dataclasses import dataclass

import datasets


@dataclass
class ToyConfig(datasets.BuilderConfig):
    num_clips: int = 3
    on_error: str = "raise"


class Toy(datasets.GeneratorBasedBuilder):
    BUILDER_CONFIG_CLASS = ToyConfig
    BUILDER_CONFIGS = [ToyConfig(name="plain"), ToyConfig(name="loud")]
    DEFAULT_CONFIG_NAME = "plain"

    def _info(self):
        emotion = datasets.ClassLabel(names=["happy", "sad"])
        return datasets.DatasetInfo(features=datasets.Features(clip_id=datasets.Value("string"), emotion=emotion))

    def _split_generators(self, dl_manager):
        return [datasets.SplitGenerator("train")]

    def _generate_examples(self):
        for number in range(self.config.num_clips):
            yield number, {"clip_id": f"{self.config.name}{number}", "emotion": "sad"}
"""


def make_toy(folder: Path, script: str = SCRIPT) -> None:
    path = folder / "dataset_scripts" / "toy" / "build_toy.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package, with its scripts inside, that knows the corpus toy."""
    package = tmp_path / "site" / "foal_hf"
    make_toy(package)
    monkeypatch.setattr(resources, "_PACKAGE_DIR", package)
    monkeypatch.setattr(corpus_scripts, "__path__", [])
    yield package
    sys.modules.pop(corpus_scripts.module_name("toy"), None)


@pytest.fixture(scope="module")
def iemocap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_tree(tmp_path_factory.mktemp("iemocap"))


@pytest.fixture(scope="module")
def corpus(iemocap: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_corpus("iemocap", iemocap, allow_partial=True, cache_dir=tmp_path_factory.mktemp("cache"))


def rows_of(dataset: Any) -> list[dict[str, Any]]:
    return list(undecoded(dataset))


def run_python(code: str, **variables: str) -> str:
    """What a fresh process prints."""
    command = [sys.executable, "-W", "error", "-c", code]
    finished = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_every_script_of_the_checkout_is_a_corpus() -> None:
    assert available_corpora() == ["crema_d", "iemocap", "ravdess", "folder"]


@pytest.mark.parametrize("name", ["crema_d", "iemocap", "ravdess"])
def test_every_script_has_the_columns_of_the_schema(name: str, tmp_path: Path) -> None:
    features = make_builder(name, cache_dir=tmp_path).info.features
    assert list(features) == list(FEATURES)
    assert {**features, "emotion": None} == {**FEATURES, "emotion": None}
    assert len(features["emotion"].names) >= 4


def test_a_corpus_is_one_split_in_the_order_of_its_ids(corpus: Dataset) -> None:
    assert str(corpus.split) == "train" and len(corpus) == 7
    assert corpus["clip_id"][:] == sorted(corpus["clip_id"])


def test_all_splits_come_as_a_dictionary(iemocap: Path, corpus: Dataset, tmp_path: Path) -> None:
    splits = load_corpus("iemocap", str(iemocap), split=None, allow_partial=True, cache_dir=str(tmp_path))
    assert isinstance(splits, DatasetDict) and list(splits) == ["train"]
    assert rows_of(splits["train"]) == rows_of(corpus)


def test_a_configuration_is_chosen_by_name(iemocap: Path, tmp_path: Path) -> None:
    every = load_corpus("iemocap", iemocap, config="all", allow_partial=True, cache_dir=tmp_path)
    assert len(every) == 9 and "frustrated" in every.features["emotion"].names


def test_a_stream_has_the_rows_of_the_prepared_corpus(iemocap: Path, corpus: Dataset, tmp_path: Path) -> None:
    stream = load_corpus("iemocap", iemocap, streaming=True, allow_partial=True, cache_dir=tmp_path)
    assert isinstance(stream, IterableDataset)
    assert rows_of(stream) == rows_of(corpus)
    assert rows_of(pickle.loads(pickle.dumps(stream))) == rows_of(corpus)


def test_map_filter_and_parquet_keep_the_columns(corpus: Dataset, tmp_path: Path) -> None:
    plain = undecoded(corpus)
    lengths = plain.map(lambda row: {"seconds": row["end_seconds"] - row["start_seconds"]}, load_from_cache_file=False)
    assert lengths["seconds"][0] == pytest.approx(0.91) and lengths.features["emotion"] == corpus.features["emotion"]
    assert set(plain.filter(lambda row: row["gender"] == "female", load_from_cache_file=False)["speaker"]) == {"Ses01F"}
    corpus.to_parquet(tmp_path / "rows.parquet")
    again = Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path))
    assert again.features == corpus.features
    assert rows_of(again) == rows_of(corpus)


def test_an_example_is_one_turn_with_its_own_sound_and_its_half_of_the_picture(corpus: Dataset) -> None:
    label2id = {"happy": 2, "neutral": 0, "sad": 1, "angry": 3}
    examples = ClipDataset(corpus, make_tiny_processor(), label2id)
    turns = {turn.name: turn for turn in SMALL_TURNS}
    for index, clip_id in enumerate(corpus["clip_id"]):
        turn, example = turns[clip_id], examples[index]
        assert example["labels"] == {"neu": 0, "sad": 1, "hap": 2, "exc": 2, "ang": 3}[turn.code]
        clip = example["clip"]
        assert loudest_hertz(clip.waveform, 16_000) == pytest.approx(turn.hertz, abs=3)
        assert len(clip.waveform) / 16_000 == pytest.approx(turn.end_seconds - turn.start_seconds, abs=0.01)
        seen = clip.frames[1:].float().mean((0, 2, 3))  # the first was on screen already when the turn began
        assert seen.tolist() == pytest.approx(turn.colour, abs=25)


def test_an_unknown_corpus_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="Unknown corpus 'iemocop'; expected one of crema_d, iemocap, ravdess, folder"):
        load_corpus("iemocop", "somewhere")


def test_an_unknown_option_is_an_error_that_lists_those_there_are(iemocap: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown option partial of iemocap; expected one of .*allow_partial"):
        load_corpus("iemocap", iemocap, partial=True)
    with pytest.raises(ValueError, match=r"Unknown option version of folder; expected one of labels"):
        load_corpus("folder", iemocap, version="2.0.0")
    with pytest.raises(
        ValueError, match="Unknown configuration 'five_class' of iemocap; expected one of four_class, all"
    ):
        load_corpus("iemocap", iemocap, config="five_class")


@pytest.mark.parametrize("name", ["crema_d", "iemocap", "ravdess"])
def test_a_script_and_the_file_that_it_shares_run_by_themselves(name: str, tmp_path: Path) -> None:
    for path in corpus_scripts.script_files(name):
        assert not re.search(r"^\s*(import|from) foal_hf", path.read_text(encoding="utf-8"), re.MULTILINE)
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for script in (tmp_path / f"build_{name}.py", corpus_scripts.find_script(name)):  # as on the Hub, in a checkout
        command = [sys.executable, script, "--data-dir", tmp_path / "nowhere", "--output", tmp_path / "rows"]
        found = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=False)
        assert found.returncode == 1, found.stderr
        assert found.stderr.splitlines()[-1].startswith(f"build_{name}.py: ") and "nowhere" in found.stderr


def test_scripts_are_found_inside_an_installed_package(toy: Path, tmp_path: Path) -> None:
    assert available_corpora() == ["toy", "folder"]
    assert load_corpus("toy", cache_dir=tmp_path)["clip_id"][:] == ["plain0", "plain1", "plain2"]
    assert load_corpus("toy", config="loud", num_clips=1, cache_dir=tmp_path)["clip_id"][:] == ["loud0"]
    assert Path(sys.modules["foal_hf.corpora.scripts.build_toy"].__file__ or "").is_relative_to(toy)


def test_what_an_older_script_wrote_is_not_used_again(toy: Path, tmp_path: Path) -> None:
    load_corpus("toy", cache_dir=tmp_path)
    make_toy(toy, SCRIPT.replace("{self.config.name}{number}", "new{number}!"))
    del sys.modules[corpus_scripts.module_name("toy")]
    assert load_corpus("toy", cache_dir=tmp_path)["clip_id"][0] == "new0!"


@pytest.mark.parametrize("script", ["import datasets\n", SCRIPT + "\n\nclass Other(Toy):\n    pass\n"])
def test_a_script_without_its_one_builder_is_refused(script: str, toy: Path) -> None:
    make_toy(toy, script)
    with pytest.raises(ValueError, match=r"build_toy.py must define exactly one GeneratorBasedBuilder, but has [02]"):
        load_corpus("toy")


def test_an_incomplete_installation_is_said_when_a_corpus_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_PACKAGE_DIR", tmp_path / "foal_hf")
    with pytest.raises(FileNotFoundError, match="installation is incomplete"):
        load_corpus("iemocap")


def test_a_stream_goes_to_another_process_which_finds_the_script_by_itself(
    iemocap: Path, corpus: Dataset, tmp_path: Path
) -> None:
    stream = load_corpus("iemocap", iemocap, streaming=True, allow_partial=True, cache_dir=tmp_path)
    (tmp_path / "stream.pkl").write_bytes(pickle.dumps(undecoded(stream)))
    code = f"""
import json, pickle
with open({str(tmp_path / "stream.pkl")!r}, "rb") as file:
    print(json.dumps([row["clip_id"] for row in pickle.load(file)]))
"""
    assert json.loads(run_python(code)) == corpus["clip_id"][:]


def test_clips_are_written_out_where_that_is_asked_for(iemocap: Path, corpus: Dataset, tmp_path: Path) -> None:
    options = {"allow_partial": True, "cache_dir": tmp_path / "cache"}
    clips = load_corpus("iemocap", iemocap, materialize=True, materialize_dir=tmp_path / "clips", **options)
    assert clips.features == corpus.features and clips["clip_id"][:] == corpus["clip_id"][:]
    rows = rows_of(clips)
    assert all(Path(row["video"]["path"]).is_relative_to(tmp_path / "clips") for row in rows)
    folder = load_corpus(
        "folder", tmp_path / "clips", cache_dir=tmp_path / "cache", validation_fraction=0.0, test_fraction=0.0
    )
    names, folder_names = (part.features["emotion"].names for part in (corpus, folder))
    for column in ("clip_id", "speaker", "session", "gender", "valence", "transcript"):
        assert folder[column][:] == corpus[column][:]
    assert [folder_names[index] for index in folder["emotion"]] == [names[index] for index in corpus["emotion"]]


def test_writing_clips_out_needs_a_folder_and_no_stream(iemocap: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs `materialize_dir`"):
        load_corpus("iemocap", iemocap, materialize=True)
    with pytest.raises(ValueError, match="needs `materialize_dir`"):
        load_corpus("iemocap", iemocap, materialize_dir=tmp_path)
    with pytest.raises(ValueError, match="does not work with `streaming=True`"):
        load_corpus("iemocap", iemocap, materialize=True, materialize_dir=tmp_path, streaming=True)
