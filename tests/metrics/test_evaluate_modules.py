"""The metrics that `evaluate` loads: the numbers of scikit-learn and of this package, offline, and as a Space."""

import ast
import json
import re
import runpy
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import evaluate
import numpy as np
import pytest
from evaluate.loading import get_imports
from huggingface_hub import metadata_load
from loopback_hub import LoopbackHub
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve
from training_examples import Examples, collate, make_arguments, make_model
from transformers import Trainer

from foal_hf.hub.metrics import push_metric
from foal_hf.metrics import METRIC_MODULES, compute_metrics, emotion_metrics, metric_path


LABELS = ["happy", "neutral", "sad", "angry"]
RECALLS = [name for name in METRIC_MODULES if name != "expected_calibration_error"]  # these take class indices too


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """All metrics, loaded; evaluate copies scripts to its cache, here a temporary one."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder / "modules")
        patch.syspath_prepend(folder / "modules")
        yield {name: evaluate.load(metric_path(name), cache_dir=str(folder / name)) for name in METRIC_MODULES}
        for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
            del sys.modules[name]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.serve_this_process(monkeypatch, tmp_path / "home")
        yield hub


def random_scores(num_labels: int, num_clips: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """References in which every class occurs, and probabilities that are right more often than by chance."""
    generator = np.random.default_rng(seed)
    references = np.concatenate([np.arange(num_labels), generator.integers(num_labels, size=num_clips - num_labels)])
    logits = generator.normal(size=(num_clips, num_labels)) * 2 + 1.5 * np.eye(num_labels)[references]
    shares = np.exp(logits)
    return references, shares / shares.sum(axis=1, keepdims=True)


def run(code: str, environment: dict[str, str]) -> dict[str, Any]:
    """What a new process prints as JSON."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.parametrize(("num_labels", "num_clips"), [(2, 11), (4, 101), (7, 503)])
def test_the_numbers_are_those_of_scikit_learn(modules: dict[str, Any], num_labels: int, num_clips: int) -> None:
    references, probabilities = random_scores(num_labels, num_clips, seed=num_clips)
    predictions = probabilities.argmax(axis=1)
    expected = {
        "unweighted_accuracy": sklearn_metrics.balanced_accuracy_score(references, predictions),
        "weighted_accuracy": sklearn_metrics.accuracy_score(references, predictions),
        "macro_f1": sklearn_metrics.f1_score(references, predictions, average="macro"),
    }
    for name, value in expected.items():
        result = modules[name].compute(references=references, predictions=predictions)
        assert result == {name: pytest.approx(value, rel=1e-12), "absent_classes": []}
    recalls = sklearn_metrics.recall_score(references, predictions, average=None)
    result = modules["per_class_recall"].compute(references=references, predictions=predictions)
    assert result["per_class_recall"] == {str(index): pytest.approx(value) for index, value in enumerate(recalls)}


@pytest.mark.parametrize("num_bins", [1, 7, 15])
def test_the_calibration_error_is_that_of_scikit_learns_curve(modules: dict[str, Any], num_bins: int) -> None:
    references, probabilities = random_scores(4, 997, seed=num_bins)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == references
    accuracies, confidences = calibration_curve(right, confidence, n_bins=num_bins)
    num_clips, _ = np.histogram(confidence, num_bins, range=(0, 1))
    expected = np.abs(accuracies - confidences) @ num_clips[num_clips > 0] / 997
    given = {"references": references, "predictions": probabilities, "num_bins": num_bins}
    result = modules["expected_calibration_error"].compute(**given)
    assert result["expected_calibration_error"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("absent", [None, 1, 3])
def test_together_they_say_what_emotion_metrics_says(modules: dict[str, Any], absent: int | None) -> None:
    references, probabilities = random_scores(4, 211, seed=5)
    references, probabilities = references[references != absent], probabilities[references != absent]
    combined = evaluate.combine(list(modules.values()))
    result = combined.compute(references=references, predictions=probabilities, labels=LABELS)
    expected = emotion_metrics(references, probabilities.argmax(axis=1), LABELS, probabilities=probabilities)
    assert result["per_class_recall"] == expected["per_class_recall"]
    for name in METRIC_MODULES:
        assert name == "per_class_recall" or result[name] == pytest.approx(expected[name], rel=1e-12)
        assert result[f"{name}_absent_classes"] == expected["absent_classes"]
    assert expected["absent_classes"] == ([] if absent is None else [LABELS[absent]])
    assert set(result) == {*METRIC_MODULES, *(f"{name}_absent_classes" for name in METRIC_MODULES)}


def test_an_absent_class_is_left_out_of_ua_without_recall_and_named_in_all(modules: dict[str, Any]) -> None:
    given = {"references": [0, 0, 0, 1, 3, 3], "predictions": [0, 0, 1, 1, 3, 0]}
    results = {name: modules[name].compute(**given, labels=LABELS) for name in RECALLS}
    assert all(result["absent_classes"] == ["sad"] for result in results.values())
    assert results["unweighted_accuracy"]["unweighted_accuracy"] == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert results["per_class_recall"]["per_class_recall"]["sad"] is None
    results = {name: modules[name].compute(**given) for name in RECALLS}  # and by its index without names
    assert all(result["absent_classes"] == ["2"] for result in results.values())


def test_a_class_that_is_only_predicted_is_named_and_has_an_f1_of_0(modules: dict[str, Any]) -> None:
    result = modules["macro_f1"].compute(references=[0, 1], predictions=[0, 2], labels=["happy", "sad", "angry"])
    assert result == {"macro_f1": pytest.approx(1 / 3), "absent_classes": ["angry"]}


@pytest.mark.parametrize("name", RECALLS)
def test_the_highest_score_is_the_prediction(modules: dict[str, Any], name: str) -> None:
    references, probabilities = random_scores(5, 53, seed=7)
    by_scores = modules[name].compute(references=references, predictions=np.log(probabilities))
    assert by_scores == modules[name].compute(references=references, predictions=probabilities.argmax(axis=1))


def test_batches_add_up(modules: dict[str, Any]) -> None:
    references, probabilities = random_scores(4, 61, seed=11)
    combined = evaluate.combine([modules["macro_f1"], modules["expected_calibration_error"]])
    for start in range(0, 61, 17):
        part = slice(start, start + 17)
        combined.add_batch(references=references[part], predictions=probabilities[part])
    assert combined.compute() == combined.compute(references=references, predictions=probabilities)


@pytest.mark.parametrize("name", RECALLS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"references": [0, 1], "predictions": [0.7, 1]}, "`predictions` holds 0.7; expected class indices"),
        ({"references": [0, -100], "predictions": [0, 1]}, "`references` holds -100.*Remove clips without a label"),
        (
            {"references": [0, 4], "predictions": [0, 1], "labels": LABELS},
            "holds 4; expected class indices from 0 to 3",
        ),
        ({"references": [0, 2], "predictions": [[0.4, 0.6], [0.5, 0.5]]}, "`references` holds 2.*from 0 to 1"),
        ({"references": [0], "predictions": [[0.4, float("nan")]]}, "scores are NaN"),
        ({"references": [0], "predictions": [[0.4, 0.6]], "labels": LABELS}, "a label for each of the 2 scores"),
        ({"references": [0, 1], "predictions": [0, 1], "labels": ["sad", "sad"]}, "its own name"),
        ({"references": [0, 1], "predictions": [0]}, "Mismatch in the number"),
    ],
)
def test_unusable_input_is_refused(name: str, given: dict, message: str, tmp_path: Path, modules: object) -> None:
    metric = evaluate.load(metric_path(name), cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=message):
        metric.compute(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"predictions": [[2.0, -1.0], [0.3, 0.4]]}, "Apply a softmax"),
        ({"predictions": [[0.5, 0.6], [0.3, 0.4]]}, "Apply a softmax"),
        ({"predictions": [[0.5, 0.5], [0.3, 0.7]], "num_bins": 0}, "`num_bins` must be at least 1, got 0"),
        ({"predictions": [0, 1]}, "don't match the expected format"),
    ],
)
def test_logits_and_classes_have_no_calibration_error(
    given: dict, message: str, tmp_path: Path, modules: object
) -> None:
    metric = evaluate.load(metric_path("expected_calibration_error"), cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match=message):
        metric.compute(references=[0, 1], **given)


def test_trainer_takes_them_as_compute_metrics(modules: dict[str, Any], tmp_path: Path) -> None:
    ours = evaluate.combine([modules["unweighted_accuracy"], modules["weighted_accuracy"]])

    def compute(evaluation: Any) -> dict[str, Any]:
        return ours.compute(references=evaluation.label_ids, predictions=evaluation.predictions) | {
            f"same_{name}": value for name, value in compute_metrics(evaluation).items()
        }

    trainer = Trainer(
        make_model(),
        make_arguments(tmp_path, train_sampling_strategy="random"),
        data_collator=collate,
        eval_dataset=Examples(11),
        compute_metrics=compute,
    )
    results = trainer.evaluate()
    for name in ("unweighted_accuracy", "weighted_accuracy"):
        assert results[f"eval_{name}"] == pytest.approx(results[f"eval_same_{name}"])
        assert results[f"eval_{name}_absent_classes"] == []


@pytest.mark.parametrize("name", METRIC_MODULES)
def test_the_module_loads_by_its_config_without_network(
    name: str, modules: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*address: object) -> None:
        raise AssertionError(f"the network was asked for {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    given = {"references": [0, 1], "predictions": [[0.75, 0.25], [0.75, 0.25]]}
    for arguments in ((metric_path(), name), (metric_path(name),), (metric_path("weighted_accuracy"), name)):
        loaded = evaluate.load(*arguments, cache_dir=str(tmp_path), download_mode="force_redownload")
        assert loaded.name == name
        assert loaded.compute(**given) == modules[name].compute(**given)


@pytest.mark.parametrize("config", [None, "accuracy"])
def test_a_config_that_does_not_exist_is_refused_with_those_that_do(
    config: str | None, tmp_path: Path, modules: object
) -> None:
    with pytest.raises(
        ValueError, match=f"Unknown metric '{config or ''}'; expected one of {', '.join(METRIC_MODULES)}"
    ):
        evaluate.load(metric_path(), config, cache_dir=str(tmp_path))


def test_the_scripts_need_only_what_comes_with_evaluate() -> None:
    imported = get_imports(str(Path(metric_path(), "emotion_classification.py")))
    assert {kind for kind, *_ in imported} == {"library"}
    names = {module for _, module, *_ in imported}
    assert names - set(sys.stdlib_module_names) == {"datasets", "evaluate", "numpy"}
    for name in METRIC_MODULES:
        assert [entry[:2] for entry in get_imports(metric_path(name))] == [("internal", "emotion_classification")]


def test_the_examples_of_card_and_module_give_what_they_say(modules: dict[str, Any]) -> None:
    card = Path(metric_path(), "README.md").read_text(encoding="utf-8")
    described = modules["macro_f1"].inputs_description
    examples = re.findall(
        r'emotion_classification", "(\w+)"\)\n\s*>>> metric\.compute\((.*)\)\n\s*(\{.*\})', card + described
    )
    assert [name for name, *_ in examples] == [*METRIC_MODULES, "unweighted_accuracy"]
    for name, arguments, shown in examples:
        call = ast.parse(f"call({arguments})", mode="eval").body
        assert isinstance(call, ast.Call)
        given = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        assert modules[name].compute(**given) == ast.literal_eval(shown)


def test_the_cards_header_makes_a_space_of_it() -> None:
    header = metadata_load(Path(metric_path(), "README.md"))
    assert {"evaluate", "metric"} <= set(header["tags"])
    assert (header["sdk"], header["app_file"]) == ("gradio", "app.py")
    assert len(header["description"]) > 20


def test_an_unknown_metric_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"Unknown metric 'accuracy'; expected one of unweighted_accuracy, .*_error"):
        metric_path("accuracy")


@pytest.mark.parametrize(
    ("name", "arguments"), [("per_class_recall", ""), ("emotion_classification", ", 'per_class_recall'")]
)
def test_a_pushed_metric_loads_by_its_name_and_without_this_package(
    name: str, arguments: str, hub: LoopbackHub, tmp_path: Path
) -> None:
    repo_id = f"org/{name}"
    result = push_metric(name, repo_id)
    files = {"README.md", "app.py", "emotion_classification.py", f"{name}.py", "requirements.txt"}
    assert {path for path, _ in result.files} == files
    assert result.changed and hub.titles("space", repo_id) == [f"Add the metric {name}"]
    assert not push_metric(name, repo_id).changed
    code = f"""
        import json, sys
        sys.modules["foal_hf"] = None  # as if it were not installed
        import evaluate
        print(json.dumps(evaluate.load({repo_id!r}{arguments}).compute(references=[0, 0, 2], predictions=[0, 2, 2])))
    """
    # evaluate counts downloads at a host of its own.
    loaded = run(code, hub.environment(tmp_path / "reader") | {"HF_UPDATE_DOWNLOAD_COUNTS": "0"})
    assert loaded == {"per_class_recall": {"0": 0.5, "1": None, "2": 1.0}, "absent_classes": ["1"]}


def test_a_dry_run_of_a_push_asks_nobody(hub: LoopbackHub) -> None:
    result = push_metric("macro_f1", "org/macro_f1", dry_run=True)
    assert len(result.files) == 5 and not result.changed
    assert hub.requests == []


def test_a_space_that_evaluate_would_not_load_is_refused(hub: LoopbackHub) -> None:
    with pytest.raises(ValueError, match="Name the Space like its metric: 'org/macro_f1'"):
        push_metric("macro_f1", "org/f1")
    assert hub.requests == []


def test_the_page_of_a_space_computes_what_is_typed(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modules: object
) -> None:
    push_metric("emotion_classification", "org/emotion_classification")
    for path, content in hub.files("space", "org/emotion_classification").items():
        (tmp_path / path).write_bytes(content)
    gradio = ModuleType("gradio")  # not a requirement of this package
    gradio.Error = type("Error", (Exception,), {})
    gradio.Textbox = gradio.JSON = lambda **settings: settings
    gradio.Dropdown = lambda choices, **settings: {"choices": choices, **settings}
    gradio.Interface = lambda compute, **settings: SimpleNamespace(compute=compute, **settings)
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "cache")
    page = runpy.run_path(str(tmp_path / "app.py"))["page"]
    assert page.article.lstrip().startswith("# Metric card: ")
    assert page.inputs[0]["choices"] == METRIC_MODULES
    for name, value in {"weighted_accuracy": 0.5, "expected_calibration_error": 0.25}.items():
        result = page.compute(name, "[[0.75, 0.25], [0.75, 0.25]]", "[0, 1]", '["happy", "sad"]')
        assert result == {name: value, "absent_classes": []}
        assert page.compute(name, "[[0.75, 0.25]]", "[1]", "")["absent_classes"] == ["0"]
        for predictions in ("[0, 1", "[]", '"happy"', "[2, 0]"):
            with pytest.raises(gradio.Error):
                page.compute(name, predictions, "[-1]", "")
