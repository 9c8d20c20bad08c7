"""Results files: what goes in comes out, and nothing else goes in."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_results import LABELS, made_evaluation, made_results, minimal_results

from foal_hf.metrics import bootstrap_intervals, emotion_metrics
from foal_hf.results import (
    Bootstrap,
    Corpus,
    Encoder,
    Evaluation,
    Latency,
    Protocol,
    Results,
    Score,
    Split,
    Training,
    installed_versions,
    public_name,
)
from foal_hf.results.latency import describe_hardware, measure_latency
from foal_hf.results.publishable import find_local_path


def written(results: Results, folder: Path) -> dict[str, Any]:
    results.save(folder / "results.json")
    return json.loads((folder / "results.json").read_text())


def load_changed(content: dict[str, Any], folder: Path) -> Results:
    (folder / "changed.json").write_text(json.dumps(content))
    return Results.load(folder / "changed.json")


@pytest.mark.parametrize("results", [made_results(), minimal_results()], ids=["everything", "nothing"])
def test_what_is_saved_is_loaded(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "new folder" / "results.json")
    assert Results.load(tmp_path / "new folder" / "results.json") == results


def test_a_class_without_clips_is_kept_as_such(tmp_path: Path) -> None:
    test = Evaluation.from_predictions([0, 1, 1], [0, 1, 0], LABELS)
    minimal_results(conditions={"both": test}).save(tmp_path / "results.json")
    loaded = Results.load(tmp_path / "results.json").conditions["both"]
    assert loaded == test and loaded.per_class_recall["angry"] is None


def test_what_is_not_known_is_not_in_the_file(tmp_path: Path) -> None:
    content = written(minimal_results(), tmp_path)
    assert set(content) == {"schema_version", "corpus", "labels", "protocol", "selection"}
    assert content["corpus"] == {"name": "Made-up Corpus"}


def test_an_encoder_from_scratch_is_not_an_unknown_one(tmp_path: Path) -> None:
    training = Training(audio_encoder=Encoder(pretrained=False))
    minimal_results(training=training).save(tmp_path / "results.json")
    loaded = Results.load(tmp_path / "results.json").training
    assert loaded.audio_encoder == Encoder(pretrained=False) and loaded.vision_encoder is None


def test_people_can_read_the_file(tmp_path: Path) -> None:
    written(made_results(), tmp_path)
    text = (tmp_path / "results.json").read_text()
    assert max(map(len, text.splitlines())) < 200
    assert f"        {made_evaluation(seed=3).confusion_matrix[0]},\n" in text


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    content = written(minimal_results(), tmp_path)
    with pytest.raises(ValueError, match=r"schema version 2, and this foal_hf reads version 1\. Update"):
        load_changed({**content, "schema_version": 2}, tmp_path)
    del content["schema_version"]
    with pytest.raises(ValueError, match=r"changed\.json is no results file: expected an object with .*schema_version"):
        load_changed(content, tmp_path)


@pytest.mark.parametrize("text", ["", "not JSON", "[1, 2]", '"schema_version"'])
def test_a_file_of_another_kind_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=r"other\.json is no results file"):
        Results.load(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("unweighted_recall",), 0.8, "`results.unweighted_recall`: unknown field"),
        (("training", "epochs"), 3, "`results.training.epochs`: unknown field"),
        (("conditions", "both", "wa"), 0.8, "`results.conditions.both.wa`: unknown field"),
        (("labels",), "happy", "`results.labels`: Input should be a valid array, got 'happy'"),
        (("labels", 1), 7, r"`results.labels\[1\]`: Input should be a valid string, got 7"),
        (("selection",), "best", "`results.selection`: Input should be 'validation', 'last' or 'test-best-epoch', got"),
        (("seeds", 0), 1.5, r"`results.seeds\[0\]`: Input should be a valid integer, got 1.5"),
        (("seeds", 0), True, r"`results.seeds\[0\]`: Input should be a valid integer, got True"),
        (("training", "batch_size"), "16", "`results.training.batch_size`: Input should be a valid integer, got '16'"),
        (("corpus", "acted"), 1, "`results.corpus.acted`: Input should be a valid boolean, got 1"),
        (("corpus",), None, "`results.corpus`: Input should be an object, got None"),
        (("corpus",), {"url": "https://example.org"}, "`results.corpus.name`: required, but missing"),
        (("conditions", "both", "macro_f1", "interval"), [0.1], r"interval\[1\]`: required, but missing"),
        (("conditions", "both", "macro_f1", "value"), math.nan, "value`: Input should be a finite number, got nan"),
        (("conditions", "both", "macro_f1", "value"), 79.5, "macro_f1`: Expected values between 0 and 1, got 79.5"),
        (("conditions", "both", "num_clips"), 5, "both`: The confusion matrix counts 211 clips, expected 5"),
        (("conditions", "smell"), {}, "`results.conditions.smell.num_clips`: required, but missing"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_place(
    place: tuple[Any, ...], value: Any, message: str, tmp_path: Path
) -> None:
    content = written(made_results(), tmp_path)
    target = content
    for name in place[:-1]:
        target = target[name]
    target[place[-1]] = value
    with pytest.raises(ValueError, match=message):
        load_changed(content, tmp_path)


def test_a_whole_number_is_a_number(tmp_path: Path) -> None:
    content = written(made_results(), tmp_path)
    content["training"]["num_epochs"] = 40
    assert load_changed(content, tmp_path) == made_results()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": ["happy", "happy"]}, "`labels` has to name each class once"),
        ({"labels": []}, "`labels` has to name each class once"),
        ({"labels": LABELS[::-1]}, "expected the labels of the run in their order"),
        ({"conditions": {"smell": made_evaluation()}}, "`conditions` holds 'smell', expected some of audio alone"),
        ({"selection": "best"}, "`selection` is 'best', expected one of"),
        ({"merged_classes": {"bored": ["tired"]}}, "Unknown label 'bored' in `merged_classes`"),
        ({"license": "Apache 2.0"}, "`license` is 'Apache 2.0', expected lower case with hyphens"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made_results(**fields)


def test_a_protocol_has_a_key_that_machines_can_use() -> None:
    with pytest.raises(ValueError, match="`key` is 'By speaker', expected lower case with hyphens"):
        Protocol("By speaker", "No speaker is in two parts.")


def test_a_score_holds_shares() -> None:
    for score in ({"value": 1.1}, {"value": -0.1}, {"value": 0.5, "interval": (0.6, 0.4)}, {"value": math.nan}):
        with pytest.raises(ValueError, match="Expected values between 0 and 1"):
            Score(**score)


LOCAL_PATHS = [
    "/home/somebody/clips",
    "from /data/clips on",
    "(/home/somebody/x)",
    "path=/srv/a",
    "~/clips",
    "~anna/clips",
    "./clips",
    "../clips",
    "file:///etc/hosts",
    "C:\\Users\\anna",
    "d:/clips",
    "\\\\server\\share",
]


@pytest.mark.parametrize("path", LOCAL_PATHS)
@pytest.mark.parametrize(
    "make",
    [
        lambda path: {"corpus": Corpus(path)},
        lambda path: {"versions": {path: "1.0"}},
        lambda path: {"splits": {"test": Split(3, clip_ids=["clip", path])}},
        lambda path: {"latency": [Latency("pipeline", 0.1, path)]},
        lambda path: {"training": Training(vision_encoder=Encoder(path))},
    ],
    ids=["corpus", "key", "clip id", "hardware", "encoder"],
)
def test_a_local_path_is_not_saved(make: Any, path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`results\..*` holds the local path"):
        minimal_results(**make(path)).save(tmp_path / "results.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/a/b?c=d#e",
        "org/name",
        "audio/video and/or both",
        "Ses01F_impro01_F000",
        "actor_01/clip_3",
        "3 clips/s, 1/2 of them, ~5 s / clip",
        "AMD EPYC 7763 64-Core Processor @ 2.45GHz",
        "cuda:0",
        "Licence: see https://example.org",
        "...",
        "10.21437/Interspeech.2024-1462",
    ],
)
def test_other_text_is_no_local_path(text: str) -> None:
    assert find_local_path({"a": [text]}, "results") is None


def test_an_encoder_that_is_a_folder_here_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outputs" / "ears").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    results = minimal_results(training=Training(audio_encoder=Encoder("outputs/ears")))
    with pytest.raises(ValueError, match="The encoder 'outputs/ears' is a folder of this machine"):
        results.save(tmp_path / "results.json")
    assert public_name("outputs/ears") is None
    assert public_name("outputs/eyes") == "outputs/eyes"
    assert [public_name(name) for name in (None, "", "/a/b", "a/b/c", "../a", "bert")] == [None] * 5 + ["bert"]


def test_a_value_of_another_type_is_not_saved(tmp_path: Path) -> None:
    results = minimal_results(seeds=[np.int64(3)])
    with pytest.raises(ValueError, match=r"`results.seeds\[0\]`: Input should be a valid integer, got 'np.int64\(3\)'"):
        results.save(tmp_path / "results.json")


def test_a_save_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minimal_results().save(tmp_path / "results.json")

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        made_results().save(tmp_path / "results.json")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert Results.load(tmp_path / "results.json") == minimal_results()


def test_an_evaluation_is_what_the_metrics_say() -> None:
    references, predictions, speakers = [0, 0, 1, 2, 3, 3], [0, 1, 1, 2, 3, 0], list("aabbcc")
    test = Evaluation.from_predictions(references, predictions, LABELS, clusters=speakers, seed=5)
    measured = emotion_metrics(references, predictions, LABELS)
    intervals = bootstrap_intervals(references, predictions, 4, speakers, seed=5)
    for name in ("unweighted_accuracy", "weighted_accuracy", "macro_f1"):
        assert getattr(test, name) == Score(measured[name], intervals[name])
    assert test.per_class_recall == measured["per_class_recall"]
    assert test.confusion_matrix == measured["confusion_matrix"]
    assert test.bootstrap == Bootstrap("speaker", num_clusters=3, seed=5)
    assert test.groups == {}


def test_groups_are_tests_of_their_own_and_the_unknown_are_in_none() -> None:
    references, predictions = [0, 0, 1, 2, 3], [0, 1, 1, 2, 3]
    genders = ["female", "female", "male", "", "male"]
    test = Evaluation.from_predictions(
        references, predictions, LABELS, clusters=list("aabcb"), groups={"gender": genders}
    )
    assert list(test.groups["gender"]) == ["female", "male"]
    female, male = test.groups["gender"].values()
    assert (female.num_clips, female.weighted_accuracy.value) == (2, 0.5)
    assert (male.num_clips, male.weighted_accuracy.value) == (2, 1.0)
    assert female.bootstrap is None and female.weighted_accuracy.interval is None  # one speaker
    assert test.bootstrap.num_clusters == 3


def test_without_speakers_there_are_no_intervals() -> None:
    test = Evaluation.from_predictions([0, 1, 2, 3], [0, 1, 2, 2], LABELS)
    assert test.bootstrap is None and test.unweighted_accuracy == Score(0.75)


def test_a_group_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected the gender of 3 clips, got 2"):
        Evaluation.from_predictions([0, 1, 2], [0, 1, 2], LABELS, groups={"gender": ["female", "male"]})


def test_a_confusion_matrix_has_a_row_for_each_label() -> None:
    with pytest.raises(ValueError, match="Expected a confusion matrix of 4 x 4 classes"):
        replace(made_evaluation(), confusion_matrix=[[211]])


def test_the_main_condition_is_both_where_it_was_tested() -> None:
    assert made_results().main_condition == "both"
    assert minimal_results(conditions={"audio alone": made_evaluation()}).main_condition == "audio alone"
    assert minimal_results().main_condition is None


def test_versions_are_those_that_run() -> None:
    import torch
    import transformers

    versions = installed_versions()
    assert versions["transformers"] == transformers.__version__ and versions["torch"] == torch.__version__
    assert {"python", "foal_hf", "av", "torchcodec"} <= set(versions)  # the last two read and write media


def test_latency_is_the_median_without_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that stands still but while something runs: 100 s for the first run, then 4, 2 and 6 s.
    now = [0.0]
    durations = iter([100.0, 4.0, 2.0, 6.0])

    def run() -> None:
        now[0] += next(durations)

    monkeypatch.setattr("foal_hf.results.latency.time.perf_counter", lambda: now[0])
    entry = measure_latency(run, "nothing", num_runs=3, batch_size=8, clip_seconds=2.5)
    assert entry == Latency("nothing", 0.5, describe_hardware("cpu"), 2.5, 8, 3)
    with pytest.raises(ValueError, match="`num_runs` has to be 1 or more, got 0"):
        measure_latency(run, "nothing", num_runs=0)


def test_hardware_is_named_with_the_threads_that_torch_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foal_hf.results.latency._cpu_name", lambda: "Imaginary CPU")
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    assert describe_hardware() == "Imaginary CPU, 3 threads"
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    assert describe_hardware("cpu") == "Imaginary CPU, 1 thread"


def test_this_processor_has_a_name() -> None:
    name, _, threads = describe_hardware().rpartition(", ")
    assert name.strip() and threads.split()[0].isdigit()
