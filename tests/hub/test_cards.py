"""Model cards: what they say is what config and results file say, and no more."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from made_results import LABELS, made_evaluation, made_results, minimal_results
from tiny_models import tiny_config

from foal_hf import TINY_CHECKPOINT, FoalNetConfig, FoalNetForEmotionClassification, FoalNetModel
from foal_hf.hub.cards import count_parameters, is_made_card, model_card
from foal_hf.resources import model_cards_dir
from foal_hf.results import Corpus, Encoder, Evaluation, Protocol, Results, Score, Split, Training
from foal_hf.synthetic import generate_recording


SECTIONS = [
    "Use",
    "Architecture",
    "Training",
    "Results",
    "Latency",
    "Limits",
    "Prohibited and high-risk uses",
    "Licences and duties",
    "Citation",
]


def python_blocks(card: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)


def section(card: str, title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", card, re.DOTALL | re.MULTILINE)[1]


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def config() -> FoalNetConfig:
    """Of a small model whose encoders have names on the Hub."""
    config = tiny_config()
    config.audio_config._name_or_path, config.vision_config._name_or_path = "org/ears", "org/eyes"
    return config


@pytest.fixture(scope="module")
def card(config: FoalNetConfig) -> str:
    return model_card(config, made_results(), repo_id="org/foal-net")


@pytest.mark.parametrize("results", [None, minimal_results(), made_results()], ids=["no", "few", "all"])
def test_every_card_has_every_section_and_no_gap(config: FoalNetConfig, results: Any) -> None:
    card = model_card(config, results)
    assert re.findall(r"^## (.*)$", card, re.MULTILINE) == SECTIONS
    assert all(section(card, title).strip() for title in SECTIONS)
    assert (
        "None" not in card
        and "{{" not in card
        and "{%" not in card
        and "nan" not in card.split()
        and "\n\n\n" not in card
    )
    assert card.endswith("}\n```\n")


def test_the_header_is_what_the_hub_reads(card: str) -> None:
    data = ModelCard(card).data
    assert data.license == "cc-by-4.0"
    assert (data.library_name, data.pipeline_tag) == ("transformers", "video-classification")
    assert data.base_model == ["org/ears", "org/eyes"]
    assert data.datasets == ["org/made-up"]
    assert data.language == ["en", "de"]
    assert data.metrics == ["recall", "accuracy", "f1"]
    assert "audio-video-emotion" in data.tags and "generated-data" not in data.tags


def test_the_header_holds_each_number_with_its_interval_and_protocol(card: str) -> None:
    data = ModelCard(card).data
    assert data.model_name == "org/foal-net"
    assert len(data.eval_results) == 9
    for entry in data.eval_results:
        metric, condition = entry.metric_name.split(", ")
        field = {"UA": "unweighted_accuracy", "WA": "weighted_accuracy", "macro F1": "macro_f1"}[metric]
        score = getattr(made_results().conditions[condition], field)
        assert entry.metric_value == pytest.approx(score.value, abs=5e-5)
        assert entry.metric_args["confidence_interval"] == pytest.approx(list(score.interval), abs=5e-5)
        assert (entry.metric_args["confidence"], entry.metric_args["clustered_by"]) == (0.95, "speaker")
        assert entry.metric_args["protocol"] == "leave-one-session-out"
        assert entry.metric_args["held_out"] == "session 5"
        assert entry.metric_args["checkpoint_chosen_by"] == "validation"
        assert (entry.dataset_name, entry.dataset_type) == ("Made-up Corpus", "org/made-up")


def test_reading_and_writing_a_card_again_changes_nothing(card: str) -> None:
    assert ModelCard(card).content == card


def test_numbers_stand_with_their_intervals_under_results(card: str) -> None:
    results = section(card, "Results")
    for name, test in made_results().conditions.items():
        scores = (test.unweighted_accuracy, test.weighted_accuracy, test.macro_f1)
        cells = [f"{s.value:.1%} [{100 * s.interval[0]:.1f}, {100 * s.interval[1]:.1f}]" for s in scores]
        assert f"| {name} | {' | '.join(cells)} | 211 |" in results
        recalls = [f"{recall:.1%}" for recall in test.per_class_recall.values()]
        assert f"| {name} | {' | '.join(recalls)} |" in results
    both = made_results().conditions["both"]
    for label, row in zip(LABELS, both.confusion_matrix, strict=True):
        assert f"| {label} | {' | '.join(map(str, row))} |" in results
    for gender, group in both.groups["gender"].items():
        assert f"| {gender} | {group.unweighted_accuracy.value:.1%} [" in results
        assert f"| {group.num_clips} |" in results
    assert "95% bootstrap intervals, resampled by speaker (7 speakers). With so few they are too narrow" in results
    assert "Chosen: epoch 13, with a UA of 71.2% on the clips used for the choice." in results


def test_with_many_speakers_intervals_are_not_called_too_narrow(config: FoalNetConfig) -> None:
    card = model_card(config, made_results(conditions={"both": made_evaluation(num_speakers=11)}))
    assert "(11 speakers)." in card and "too narrow" not in card


def test_an_interval_without_width_is_not_called_certain(config: FoalNetConfig) -> None:
    says = "One without width means that this test shows no spread, not that the value is certain."
    all_right = Evaluation.from_predictions([0, 1, 2, 3] * 2, [0, 1, 2, 3] * 2, LABELS, clusters="aaaabbbb")
    assert says in model_card(config, minimal_results(conditions={"both": all_right}))
    assert says not in model_card(config, made_results())


def test_the_spread_over_runs_is_shown(config: FoalNetConfig) -> None:
    matrix = [[3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0], [0, 0, 2, 1]]
    score = Score(0.8333, standard_deviation=0.0213)
    test = Evaluation(12, score, score, score, dict(zip(LABELS, (1.0, 1.0, 1.0, 1 / 3), strict=True)), matrix)
    card = model_card(config, minimal_results(conditions={"both": test}))
    assert "| both | 83.3% ± 2.1 | 83.3% ± 2.1 | 83.3% ± 2.1 | 12 |" in card
    assert "±: standard deviation over the runs, in percentage points." in card
    assert ModelCard(card).data.eval_results[0].metric_args["standard_deviation"] == 0.0213


def test_a_class_without_clips_has_no_recall(config: FoalNetConfig) -> None:
    test = Evaluation.from_predictions([0, 1, 1], [0, 1, 0], LABELS)
    card = model_card(config, minimal_results(conditions={"both": test}))
    assert "| both | 100.0% | 50.0% | no clips | no clips |" in card


@pytest.mark.parametrize(
    ("selection", "says"),
    [
        ("validation", "the best epoch on the validation split. The test split was evaluated once."),
        ("last", "the last epoch"),
        ("test-best-epoch", "Checkpoint chosen on the test session"),
    ],
)
def test_how_the_checkpoint_was_chosen_is_said(config: FoalNetConfig, selection: str, says: str) -> None:
    card = model_card(config, made_results(selection=selection))
    assert says in section(card, "Results")
    too_good = [name for name in ("Results", "Limits") if "chosen on the test session" in section(card, name).lower()]
    assert too_good == (["Results", "Limits"] if selection == "test-best-epoch" else [])
    assert ("so this value is too high" in card) is (selection == "test-best-epoch")


def test_training_is_told_as_it_was(card: str) -> None:
    training = section(card, "Training")
    for fact in (
        "[Made-up Corpus](https://example.org/made-up) (acted; language: en and de). Two people talk to each other.",
        "Each session is held out once. Held out: session 5.",
        "| train | 1,201 | 8 |",
        "- audio encoder: `org/ears`",
        "- loss: classification + 1 x alignment (AVEL) + 0.1 x label matching (MEM)",
        "- recipe: `paper`",
        "- epochs: 40",
        "- batch: 16 clips",
        "- learning rate: 0.0001",
        "- frames per second: 30",
        "- hardware: Imaginary GPU",
        "- seeds: 3 and 5",
        "- versions: torch 2.13.0, transformers 5.23.0, foal_hf 0.1.0",
    ):
        assert fact in training
    assert "modality dropout" not in training  # 0 in the config


def test_merged_classes_licences_latency_and_limits_are_told(card: str) -> None:
    assert "- 0: happy (excited counts as happy)\n- 1: neutral\n" in card
    assert "| pipeline, 4.5 s long, 1 clip per batch, median of 9 runs | 0.123 s | Imaginary CPU, 2 threads |" in card
    assert "| model alone | 0.0123 s | Imaginary GPU (torch 9.9) |" in card
    licences = section(card, "Licences and duties")
    assert "- Made-up Corpus: Made-up Licence 1.0. Whoever passes the model on names its makers." in licences
    assert "- `org/ears`: MIT. Keep the notice.\n- `org/eyes`: Apache-2.0\n" in licences
    limits = section(card, "Limits")
    for limit in ("acted", "en and de", "not what a person felt", "does not distinguish excited from happy"):
        assert limit in limits


def test_every_card_names_what_is_prohibited(config: FoalNetConfig) -> None:
    for results in (None, made_results()):
        uses = one_line(section(model_card(config, results), "Prohibited and high-risk uses"))
        assert "**at work and in education is prohibited** in the European Union, except for medical or safety" in uses
        assert all(article in uses for article in ("Article 5(1)(f)", "Annex III", "Article 50(3)"))


def test_without_results_nothing_is_claimed(config: FoalNetConfig) -> None:
    card = model_card(config)
    assert "Nothing was measured" in section(card, "Results")
    assert "Not measured." in section(card, "Latency")
    assert "not recorded" in section(card, "Training")
    assert "%" not in card
    data = ModelCard(card).data
    assert data.eval_results is None and data.metrics is None and data.datasets is None and data.license is None


def test_what_a_run_does_not_know_is_left_out(config: FoalNetConfig) -> None:
    results = minimal_results(splits={"test": Split(31)}, training=Training(num_epochs=3.0))
    card = model_card(config, results)
    assert "| test | 31 |  |" in card
    facts = section(card, "Training")
    assert "- epochs: 3" in facts
    assert not [word for word in ("batch", "learning rate", "seed", "versions", "hardware") if f"- {word}" in facts]
    assert "Nothing was measured" in card and "%" not in card


@pytest.mark.parametrize("by", ["config", "results"])
def test_a_generated_corpus_is_said_to_be_one_above_everything_else(by: str) -> None:
    config = tiny_config(trained_on_generated_data=by == "config")
    results = minimal_results(corpus=Corpus("drawn faces", generated=True)) if by == "results" else None
    card = model_card(config, results)
    body = ModelCard(card).text
    assert body.index("**Its labels mean nothing on real people.**") < body.index("## Use")
    assert "Do not use this checkpoint on people" in section(card, "Prohibited and high-risk uses")
    assert "generated-data" in ModelCard(card).data.tags
    assert "not what a person felt" not in card


def test_a_corpus_of_people_gets_no_such_warning(card: str) -> None:
    assert "mean nothing" not in card and "generated clips" not in card


def test_names_that_are_folders_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outputs" / "ears").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    config = tiny_config()
    config.audio_config._name_or_path = "outputs/ears"
    config.vision_config._name_or_path = str(tmp_path / "eyes")
    card = model_card(config)
    assert ModelCard(card).data.base_model is None
    assert "outputs/ears" not in card and str(tmp_path) not in card


def test_encoders_are_named_from_the_results_where_the_config_does_not_know_them() -> None:
    card = model_card(tiny_config(), made_results())
    assert ModelCard(card).data.base_model == ["org/ears", "org/eyes"]
    scratch = Training(audio_encoder=Encoder(pretrained=False), vision_encoder=Encoder())
    card = model_card(tiny_config(), made_results(training=scratch))
    assert ModelCard(card).data.base_model is None
    assert "- audio encoder: from scratch\n- image encoder: pretrained\n" in card
    assert "- the pretrained image encoder: licence not recorded here" in card


def test_results_that_hold_a_local_path_make_no_card(config: FoalNetConfig) -> None:
    with pytest.raises(ValueError, match=r"`results\.corpus\.name` holds the local path '/home/somebody/clips'"):
        model_card(config, minimal_results(corpus=Corpus("/home/somebody/clips")))


def test_results_of_another_model_make_no_card() -> None:
    config = tiny_config(id2label={0: "neutral", 1: "happy", 2: "sad", 3: "angry"})
    with pytest.raises(ValueError, match="this checkpoint has \\['neutral', 'happy', 'sad', 'angry'\\]"):
        model_card(config, made_results())


def test_a_repository_has_a_name_that_the_hub_takes(config: FoalNetConfig) -> None:
    with pytest.raises(ValueError, match="outputs/my/checkpoint"):
        model_card(config, repo_id="outputs/my/checkpoint")


@pytest.mark.parametrize("fields", [{}, {"freeze_vision_encoder": False}, {"freeze_audio_feature_encoder": False}])
def test_parameters_are_counted_as_in_the_model(fields: dict[str, bool]) -> None:
    config = tiny_config(**fields)
    model = FoalNetForEmotionClassification(config)
    counts = count_parameters(config)
    assert counts["all"] == (model.num_parameters(), model.num_parameters(only_trainable=True))
    encoder = model.foal_net.audio_encoder
    assert counts["audio encoder"] == (encoder.num_parameters(), encoder.num_parameters(only_trainable=True))
    parts = [count for name, count in counts.items() if name != "all"]
    assert tuple(map(sum, zip(*parts, strict=True))) == counts["all"]
    assert f"| all |  | {counts['all'][0]:,} | {counts['all'][1]:,} |" in model_card(config)


def test_parameters_of_adapters_can_be_given(config: FoalNetConfig) -> None:
    assert "| all |  | 12,345,678 | 345 |" in model_card(config, num_parameters=(12_345_678, 345))


def test_a_checkpoint_without_classifier_says_so() -> None:
    config = tiny_config(architectures=["FoalNetModel"])
    assert count_parameters(config)["all"][0] == FoalNetModel(config).num_parameters()
    card = model_card(config)
    assert "This checkpoint has no classifier." in card and "Predicts the emotion" not in card
    assert "has no classifier" not in model_card(tiny_config())


def test_making_a_card_draws_no_random_number(config: FoalNetConfig) -> None:
    before = torch.get_rng_state()
    model_card(config, made_results())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_card_can_be_told_from_one_that_somebody_wrote(card: str) -> None:
    assert is_made_card(card)
    assert not is_made_card(card.replace("<!-- Made by foal_hf", "<!-- Edited"))


def test_a_bar_in_a_name_does_not_break_a_table(config: FoalNetConfig) -> None:
    card = model_card(config, minimal_results(splits={"train|dev": Split(3)}))
    assert "| train\\|dev | 3 |  |" in card


def test_a_template_in_a_name_is_not_filled(config: FoalNetConfig) -> None:
    card = model_card(config, minimal_results(corpus=Corpus("{{ title }}<b>&")))
    assert "# Foal-Net, trained on {{ title }}<b>&" in card


def test_there_is_one_template_and_the_cards_use_all_of_it(card: str) -> None:
    assert {path.name for path in model_cards_dir().iterdir()} == {"README.md", "model_card.md"}
    template = (model_cards_dir() / "model_card.md").read_text(encoding="utf-8")
    always = re.sub(r"{% if .*?{% endif %}", "", template, flags=re.DOTALL).splitlines()
    assert {line for line in always if "{{" not in line and "{%" not in line} <= set(card.splitlines())


def test_the_card_of_the_tiny_checkpoint_is_the_one_that_its_files_make() -> None:
    results = Results.load(TINY_CHECKPOINT / "results.json")
    card = model_card(FoalNetConfig.from_pretrained(TINY_CHECKPOINT), results)
    assert (TINY_CHECKPOINT / "README.md").read_text(encoding="utf-8") == card


def test_the_card_names_every_source_of_a_corpus_with_its_licence_and_citation(config: FoalNetConfig) -> None:
    voices = Corpus(
        "Voices", url="https://voices.example", license="CC BY-NC-SA 4.0", duty="Give credit", citation="A 18"
    )
    faces = Corpus("Faces", hub_id="org/faces", license="Apache-2.0", description="Photographs of other people")
    corpus = Corpus("voices with faces", sources=[voices, faces])
    results = minimal_results(corpus=corpus, license="cc-by-nc-sa-4.0")
    card = model_card(config, results)
    training = section(card, "Training")
    assert "\n- [Voices](https://voices.example)\n- Faces: Photographs of other people.\n" in training
    licences = section(card, "Licences and duties")
    assert "- this checkpoint: cc-by-nc-sa-4.0\n" in licences
    assert "- Voices: CC BY-NC-SA 4.0. Give credit. Cite: A 18.\n- Faces: Apache-2.0\n" in licences
    assert "voices with faces" not in licences  # it has no licence of its own
    assert ModelCard(card).data.license == "cc-by-nc-sa-4.0" and ModelCard(card).data.datasets == ["org/faces"]
    forbidden = "**non-commercial use only**"
    assert forbidden in section(card, "Prohibited and high-risk uses")
    assert forbidden not in model_card(config, minimal_results(license="cc-by-sa-4.0"))


def test_scores_of_other_models_than_the_published_one_are_called_so(config: FoalNetConfig) -> None:
    protocol = Protocol("speaker-disjoint", "Six folds.", refitted=True)
    card = model_card(config, made_results(protocol=protocol))
    assert "the UA of models trained in the same way is" in card and "its UA is" not in card
    assert "was then trained on all clips, and was not tested itself. The checkpoint is" in section(card, "Results")
    assert "trained in the same way" not in model_card(config, made_results())


def test_the_card_lists_what_was_not_measured(config: FoalNetConfig) -> None:
    card = model_card(config, minimal_results(not_measured=["films", "other languages"]))
    assert "\n- Not measured: films; other languages.\n" in section(card, "Limits")
    assert "Not measured: " not in model_card(config, minimal_results())


def test_the_three_ways_to_use_it_name_the_repository(card: str, config: FoalNetConfig) -> None:
    blocks = python_blocks(card)
    assert len(blocks) == 3
    assert all('"org/foal-net"' in block for block in blocks)
    assert ["import foal_hf" in block for block in blocks] == [True, False, True]
    assert 'pipeline("audio-video-emotion", model="org/foal-net", trust_remote_code=True)' in blocks[1]
    assert all('"."' in block for block in python_blocks(model_card(config)))


def test_the_ways_to_use_it_with_the_package_run(tmp_path: Path) -> None:
    # The second, with the code that lies beside the weights, is run where that code is pushed and loaded.
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(TINY_CHECKPOINT, checkpoint)
    generate_recording(checkpoint / "clip.mp4", ["happy"], seconds_each=1.2)
    pipeline_block, _, embeddings_block = python_blocks(model_card(FoalNetConfig.from_pretrained(checkpoint)))
    finished = subprocess.run(
        [sys.executable, "-c", f"{pipeline_block}\n{embeddings_block}"],
        cwd=checkpoint,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    scores, shapes = finished.stdout.strip().splitlines()
    assert all(label in scores for label in LABELS)
    assert shapes == "torch.Size([1, 64]) torch.Size([1, 64])"
