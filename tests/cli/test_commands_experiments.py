"""The commands that train and test: their arguments, and what they print."""

import json
from pathlib import Path
from typing import Any

import pytest
from experiment_examples import experiment_tree, save_encoders

from foal_hf.cli import main
from foal_hf.results import Results


QUICK = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 5,
    "max_seconds": 1.0,
    "frames_per_second": 5.0,
    "projection_dim": 16,
    "dataloader_num_workers": 0,
    "disable_tqdm": "true",
    "use_cpu": "true",
}
SETTINGS = [word for name, value in QUICK.items() for word in ("--set", f"{name}={value}")]


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The words that name a fake IEMOCAP."""
    folder = tmp_path_factory.mktemp("cli")
    release = experiment_tree(folder)
    return ["--corpus", "iemocap", "--data-dir", release, "--allow-partial", "--cache-dir", folder / "cache"]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    return ["--encoders", *save_encoders(tmp_path_factory.mktemp("encoders"))]


def test_train_and_evaluate_print_only_their_report(
    corpus: list[object], encoders: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--recipe", "paper", *corpus, *encoders, *SETTINGS, "--test-session", "3", "--output", tmp_path / "run"]
    assert run("train", *words, "--select", "test-best-epoch", "--seed", "7") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("IEMOCAP, held out: session Ses03. **Checkpoint chosen on the test session**")
    assert "| both | " in printed and "train_runtime" not in printed
    results = Results.load(tmp_path / "run" / "results.json")
    assert results.seeds == [7] and results.training is not None and results.training.num_epochs == 1

    words = [tmp_path / "run" / "checkpoint", *corpus, "--session", "Ses03", "--map", "sad=", "--json"]
    assert run("evaluate", *words) == 0
    test = json.loads(capsys.readouterr().out)
    assert test["left_out"] == {"sad": 2} and len(test["clip_ids"]) == 8


def test_cross_validate_and_ablate_pass_on_their_options(
    corpus: list[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[dict[str, Any]] = []

    def note(recipe: Any, rows: Any, output: str, **fields: Any) -> None:
        calls.append({"recipe": recipe, "rows": len(rows), "output": output, **fields})
        raise KeyboardInterrupt

    words = ["--recipe", "tiny", *corpus, "--output", tmp_path, "--by", "speaker", "--held-out", "Ses01F", "Ses02M"]
    words += ["--seeds", "1", "2", "--set", "learning_rate=3e-5", "--store", "features", "--init", "mine"]
    for command in ("cross-validate", "ablate"):
        monkeypatch.setattr(f"foal_hf.experiments.{command.replace('-', '_')}", note)
        assert run(command, *words) == 130
    assert len(calls) == 2
    for call in calls:
        recipe = call.pop("recipe")
        assert recipe.name == "tiny" and recipe.training["learning_rate"] == 3e-5
        assert call.pop("about").name == "IEMOCAP"
        expected = {"by": "speaker", "held_out": ["Ses01F", "Ses02M"], "seeds": [1, 2], "select": "validation"}
        assert call == {"rows": 30, "output": str(tmp_path), "store_dir": "features", "init": "mine", **expected}


def test_a_corpus_without_a_test_split_needs_a_held_out_session(
    corpus: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", *corpus, "--output", tmp_path) == 1
    said = capsys.readouterr().err
    assert "has the splits train, and train and test are needed" in said and "(`--test-session`)" in said
    assert run("train", *corpus, "--output", tmp_path, "--test-session", "1", "--test-speaker", "1F") == 1
    assert "not both" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--set", "learning_rate"], ["--set", "=3"], ["--select", "best"]])
def test_misuse_exits_with_two(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        run("train", "--corpus", "iemocap", "--output", tmp_path, *words)
    assert ended.value.code == 2
