"""Training on a folder of features, from the command to the checkpoint and back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from experiment_examples import save_encoders
from feature_folders import AUDIO_WIDTH, EMOTIONS, VIDEO_WIDTH, make_feature_folder
from transformers import AutoModelForVideoClassification, AutoProcessor

from foal_hf.cli import main
from foal_hf.corpora import load_corpus
from foal_hf.corpora.feature_files import feature_widths
from foal_hf.data import ClipCollator, ClipDataset
from foal_hf.experiments.assembly import describe_encoders, make_model, make_processor
from foal_hf.experiments.recipe import FEATURES, Recipe, load_recipe
from foal_hf.foal_net.configuration_foal_net import FoalNetConfig
from foal_hf.foal_net.sources_foal_net import MediaError
from foal_hf.results import Results
from foal_hf.training.checks import check_features


EXTRACTOR = "emotion2vec base, last layer, 50 positions per second"
QUICK = ("num_train_epochs=12", "learning_rate=0.003", "dataloader_num_workers=0", "disable_tqdm=true", "use_cpu=true")


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_feature_folder(tmp_path_factory.mktemp("features") / "clips")


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of `foal-hf train`."""
    output = tmp_path_factory.mktemp("trained")
    settings = [word for name in QUICK for word in ("--set", name)]
    settings += ["--set", f"audio_features_from={EXTRACTOR}"]
    corpus = ["--corpus", "folder", "--data-dir", folder, "--cache-dir", output / "cache"]
    assert run("train", "--recipe", "tiny", *corpus, *settings, "--output", output / "run") == 0
    return output / "run"


def test_training_on_features_alone_learns_and_records_that_it_has_no_encoders(trained: Path) -> None:
    results = Results.load(trained / "results.json")
    assert results.conditions["both"].unweighted_accuracy.value > 0.9
    assert results.training is not None
    assert (results.training.audio_encoder, results.training.vision_encoder) == (None, None)
    assert results.training.settings["encoders"] == {"audio": FEATURES, "vision": FEATURES}
    assert not (trained / "features").exists()
    config = json.loads((trained / "checkpoint" / "config.json").read_text())
    assert (config["audio_feature_dim"], config["video_feature_dim"]) == (AUDIO_WIDTH, VIDEO_WIDTH)
    assert config["audio_config"] is None and config["audio_features_from"] == EXTRACTOR


@torch.no_grad()
def test_the_checkpoint_loads_back_and_predicts_from_features(trained: Path, folder: Path, tmp_path: Path) -> None:
    model = AutoModelForVideoClassification.from_pretrained(trained / "checkpoint")
    processor = AutoProcessor.from_pretrained(trained / "checkpoint")
    corpus = load_corpus("folder", folder, split="test", cache_dir=tmp_path)
    clips = ClipDataset(corpus, processor, model.config.label2id)
    batch = ClipCollator(processor)([clips[index] for index in range(len(clips))])
    logits = model(**batch).logits
    recorded = json.loads((trained / "predictions.json").read_text())
    expected = torch.tensor(recorded["probabilities"]["both"])
    assert recorded["clip_ids"] == corpus["clip_id"]
    torch.testing.assert_close(logits.double().softmax(1).float(), expected, atol=1e-5, rtol=0)


def test_the_checkpoint_is_evaluated_on_features_and_refuses_a_corpus_without(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = ["--corpus", "folder", "--data-dir", folder, "--cache-dir", tmp_path / "cache"]
    assert run("evaluate", trained / "checkpoint", *corpus, "--held-out", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["clip_ids"]) == 4
    (folder / "metadata.csv").rename(tmp_path / "kept.csv")
    try:
        table = "video_features_file,emotion,speaker\n" + "".join(
            f"s{speaker}-{clip}-video.npy,{EMOTIONS[clip % 2]},s{speaker}\n" for speaker in range(6) for clip in (0, 1)
        )
        (folder / "metadata.csv").write_text(table)
        assert run("evaluate", trained / "checkpoint", *corpus, "--allow-training-clips") == 1
    finally:
        (tmp_path / "kept.csv").rename(folder / "metadata.csv")
    assert f"takes audio features of width 28 from {EXTRACTOR}, and the corpus has no column" in capsys.readouterr().err


def test_inspect_says_that_the_clips_are_features(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inspect", "folder", "--data-dir", folder, "--cache-dir", tmp_path) == 0
    assert "24 clips have video features of width 20 instead of video." in capsys.readouterr().out


def test_an_encoder_of_the_recipe_is_not_loaded_for_a_side_of_features(tmp_path: Path) -> None:
    audio, vision = save_encoders(tmp_path)
    recipe = load_recipe("default").with_encoders(audio, "org/no-such-encoder").with_features({"video"})
    model = make_model(recipe, EMOTIONS, feature_widths={"video": VIDEO_WIDTH})
    assert (model.config.audio_config.model_type, model.config.vision_config) == ("wavlm", None)
    processor = make_processor(recipe)
    assert processor.max_seconds == 6.0 and processor.feature_extractor is not None
    assert [each and each.pretrained for each in describe_encoders(recipe)] == [True, None]
    recipe = load_recipe("default").with_encoders("org/no-such-encoder", vision).with_features({"audio"})
    model = make_model(recipe, EMOTIONS, feature_widths={"audio": AUDIO_WIDTH})
    assert (model.config.audio_config, model.config.vision_config.model_type) == (None, "clip_vision_model")
    assert make_processor(recipe).feature_extractor is None
    tiny = load_recipe("tiny").with_features({"audio"})
    assert make_model(tiny, EMOTIONS, feature_widths={"audio": AUDIO_WIDTH}).config.vision_config is not None
    assert make_processor(tiny).video_processor is not None


def test_a_recipe_may_demand_features(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("encoders: {audio: features, vision: features}\n")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert recipe.encoder_names() == (None, None)
    assert recipe.as_dict()["encoders"] == {"audio": "features", "vision": "features"}
    with pytest.raises(ValueError, match="names one encoder"):
        Recipe("half", audio_encoder="microsoft/wavlm-base")
    table = "video_features_file,emotion,speaker\n" + "".join(
        f"{folder.name}/s{speaker}-{clip}-video.npy,{EMOTIONS[clip % 2]},s{speaker}\n"
        for speaker in range(6)
        for clip in (0, 1)
    )
    (folder.parent / "metadata.csv").write_text(table)
    corpus = ["--corpus", "folder", "--data-dir", folder.parent, "--cache-dir", tmp_path / "cache"]
    assert run("train", "--recipe", tmp_path / "mine.yaml", *corpus, "--output", tmp_path / "run") == 1
    assert "takes audio features, but the corpus has none" in capsys.readouterr().err


def test_features_of_another_width_are_found_before_the_first_step() -> None:
    config = FoalNetConfig(audio_feature_dim=AUDIO_WIDTH, audio_features_from=EXTRACTOR)
    check_features({"audio_features": torch.zeros(1, 2, AUDIO_WIDTH)}, config, "training")
    with pytest.raises(ValueError, match=rf"training split have width 27, but this model takes .* from {EXTRACTOR}"):
        check_features({"audio_features": torch.zeros(1, 2, 27)}, config, "training")
    with pytest.raises(ValueError, match="width 27, but the image encoder of this model has width 768"):
        check_features({"video_features": torch.zeros(1, 2, 27)}, config, "training")


def test_features_that_were_damaged_after_loading_are_an_error_with_the_clip(folder: Path, tmp_path: Path) -> None:
    folder = make_feature_folder(tmp_path / "clips", num_speakers=2, clips_of_each=2)
    corpus = load_corpus("folder", folder, cache_dir=tmp_path, validation_fraction=0.0, test_fraction=0.0)
    assert feature_widths(corpus) == {"audio": AUDIO_WIDTH, "video": VIDEO_WIDTH}
    clips = ClipDataset(
        corpus, make_processor(load_recipe("tiny").with_features({"audio", "video"})), {"happy": 0, "sad": 1}
    )
    np.save(folder / "s1-0-video.npy", np.full((3, VIDEO_WIDTH), np.inf, dtype=np.float32))
    clips[0]
    with pytest.raises(MediaError, match=r"s1-0-video\.npy, .*s1-0-video\.npy: has NaN or infinite values"):
        clips[2]
