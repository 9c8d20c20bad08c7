"""The quickstart end to end on a few generated clips: every step is real, only the numbers are small."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from safetensors import safe_open
from transformers import pipeline

from foal_hf.experiments.quickstart import QuickstartResult, render_table, run_quickstart
from foal_hf.results import Encoder, Results
from foal_hf.results.latency import describe_hardware
from foal_hf.synthetic import EMOTIONS, read_metadata


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[QuickstartResult, Path]:
    output = tmp_path_factory.mktemp("quickstart")
    return run_quickstart(output, num_speakers=8, clips_per_emotion=1, num_epochs=2), output


def test_everything_it_promises_is_left_behind(run) -> None:
    result, output = run
    assert Path(result.checkpoint) == output / "checkpoint"
    names = {path.name for path in (output / "checkpoint").iterdir() if not path.name.endswith("_foal_net.py")}
    assert names == {"README.md", "config.json", "model.safetensors", "processor_config.json", "results.json"}
    for picture in (result.confusion_matrix, result.timeline):
        assert Path(picture).read_bytes().startswith(b"\x89PNG")
    for folder in (output, output / "checkpoint"):
        assert Results.load(folder / "results.json") == result.results


def test_it_is_tested_on_speakers_that_it_did_not_see(run) -> None:
    result, output = run
    assert result.num_clips == {"train": 20, "validation": 4, "test": 8}
    assert {name: split.num_speakers for name, split in result.results.splits.items()} == {
        "train": 5,
        "validation": 1,
        "test": 2,
    }
    speakers = {name: {row["speaker"] for row in read_metadata(output / "corpus", name)} for name in result.num_clips}
    assert not speakers["test"] & (speakers["train"] | speakers["validation"])


def test_every_condition_is_measured_by_speaker_and_for_each_gender(run) -> None:
    result, _ = run
    assert list(result.results.conditions) == ["audio alone", "video alone", "both"]
    for test in result.results.conditions.values():
        assert test.num_clips == 8 and test.bootstrap.num_clusters == 2
        assert test.bootstrap.clustered_by == "speaker" and test.unweighted_accuracy.interval is not None
        assert {name: group.num_clips for name, group in test.groups["gender"].items()} == {"female": 4, "male": 4}


def test_the_results_say_what_was_done(run) -> None:
    results = run[0].results
    assert (
        results.corpus.generated and "nothing measured on it says anything about people" in results.corpus.description
    )
    assert (results.selection, results.labels, results.seeds) == ("validation", list(EMOTIONS), [0])
    assert results.selected_epoch in (1.0, 2.0) and 0 <= results.selection_score <= 1
    training = results.training
    assert training.audio_encoder == training.vision_encoder == Encoder(pretrained=False)
    assert (training.num_epochs, training.batch_size, training.learning_rate) == (2.0, 16, 1e-3)
    assert training.schedule == "cosine, warm-up over 10% of the steps"
    assert training.loss_weights == {"classification": 1.0, "alignment": 0.1, "matching": 0.1}
    (latency,) = results.latency
    assert latency.seconds_per_clip > 0 and latency.clip_seconds > 1
    assert latency.hardware == describe_hardware("cpu")


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
    for name, test in result.results.conditions.items():
        assert f"| {name} | {test.unweighted_accuracy.value:.1%} [" in card
        assert f"| {name} | {test.unweighted_accuracy.value:.1%} | {test.weighted_accuracy.value:.1%} |" in (
            render_table(result)
        )
    assert len(ModelCard(card).data.eval_results) == 9
    assert "mean nothing on real people" in card and "| all |  | 370,033 | 370,033 |" in card
    assert result.results.latency[0].hardware in card


def test_the_checkpoint_names_no_folder_of_this_machine(run) -> None:
    result, output = run
    files = [path for path in Path(result.checkpoint).iterdir() if path.suffix in (".json", ".md")]
    assert len(files) == 4
    for path in files:
        assert str(output) not in path.read_text()


def test_a_second_run_reuses_the_clips(run) -> None:
    _, output = run
    clips = sorted((output / "corpus").rglob("*.mp4"))
    before = [path.stat().st_mtime_ns for path in clips]
    run_quickstart(output, num_speakers=8, clips_per_emotion=1, num_epochs=1)
    assert [path.stat().st_mtime_ns for path in clips] == before
