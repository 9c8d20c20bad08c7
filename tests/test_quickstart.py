"""The quickstart end to end on a few generated clips: every step is real, only the numbers are small."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from transformers import pipeline

from foal_hf.quickstart import QuickstartResult, render_table, run_quickstart


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[QuickstartResult, Path]:
    output = tmp_path_factory.mktemp("quickstart")
    return run_quickstart(output, num_speakers=4, clips_per_emotion=1, num_epochs=2), output


def test_everything_it_promises_is_left_behind(run) -> None:
    result, output = run
    assert Path(result.checkpoint) == output / "checkpoint"
    names = {path.name for path in (output / "checkpoint").iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors", "processor_config.json"}
    for picture in (result.confusion_matrix, result.timeline):
        assert Path(picture).read_bytes().startswith(b"\x89PNG")
    assert json.loads((output / "results.json").read_text())["metrics"] == result.metrics


def test_it_is_tested_on_speakers_that_it_did_not_see(run) -> None:
    result, _ = run
    assert result.num_clips["test"] == result.metrics["both"]["num_clips"]
    assert sum(result.num_clips.values()) == 16


def test_a_new_process_gives_the_held_out_files_the_same_labels(run) -> None:
    result, _ = run
    assert result.predictions_agree == result.num_clips["test"]


def test_the_checkpoint_loads_through_the_pipeline_and_says_what_it_is(run) -> None:
    result, output = run
    classify = pipeline("audio-video-emotion", model=result.checkpoint)
    assert classify.model.config.trained_on_generated_data
    assert len(classify(str(output / "recording.mp4"))) == 4
    with safe_open(Path(result.checkpoint) / "model.safetensors", "pt") as weights:
        assert "classifier.weight" in weights.keys()  # noqa: SIM118  (the file is no mapping)


def test_the_card_holds_the_numbers_that_were_measured(run) -> None:
    result, output = run
    card = (output / "checkpoint" / "README.md").read_text()
    assert render_table(result) in card and f"{result.num_parameters:,}" in card
    assert str(output) not in card and "$" not in card


def test_the_checkpoint_names_no_folder_of_this_machine(run) -> None:
    result, output = run
    for path in Path(result.checkpoint).glob("*.json"):
        assert str(output) not in path.read_text()


def test_a_second_run_reuses_the_clips(run) -> None:
    _, output = run
    clips = sorted((output / "corpus").rglob("*.mp4"))
    before = [path.stat().st_mtime_ns for path in clips]
    run_quickstart(output, num_speakers=4, clips_per_emotion=1, num_epochs=1)
    assert [path.stat().st_mtime_ns for path in clips] == before
