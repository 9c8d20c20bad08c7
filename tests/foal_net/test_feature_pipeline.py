"""The pipeline and the card of checkpoints that take features instead of audio, video or both."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from feature_folders import AUDIO_WIDTH, EMOTIONS, VIDEO_WIDTH, make_feature_folder
from media_builders import make_clip
from tiny_models import tiny_config, with_random_biases
from tiny_processors import tiny_processor
from transformers import pipeline

from foal_hf import FoalNetForEmotionClassification, FoalNetProcessor, load_corpus
from foal_hf.annotate import annotate
from foal_hf.cli import main
from foal_hf.foal_net.configuration_foal_net import FoalNetConfig
from foal_hf.hub.cards import model_card


EXTRACTOR = "emotion2vec base, last layer, 50 positions per second"
RANDOM = np.random.default_rng(2)
AUDIO = RANDOM.normal(size=(11, AUDIO_WIDTH)).astype(np.float32)
VIDEO = RANDOM.normal(size=(5, VIDEO_WIDTH)).astype(np.float32)


def make_pipeline(folder: Path, processor: FoalNetProcessor, **fields: Any) -> Any:
    torch.manual_seed(1)
    config = FoalNetConfig(
        projection_dim=16,
        initializer_range=0.3,
        id2label=dict(enumerate(EMOTIONS)),
        audio_features_from=EXTRACTOR,
        **fields,
    )
    model = with_random_biases(FoalNetForEmotionClassification(config)).eval()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return pipeline("audio-video-emotion", model=str(folder))


def scores_of(entries: list[dict[str, Any]]) -> list[float]:
    found = {entry["label"]: entry["score"] for entry in entries}
    return [found[name] for name in EMOTIONS]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def classify(checkpoint: Path) -> Any:
    """Of a checkpoint without encoders."""
    return make_pipeline(checkpoint, FoalNetProcessor(), audio_feature_dim=AUDIO_WIDTH, video_feature_dim=VIDEO_WIDTH)


@pytest.fixture(scope="module")
def classify_mixed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Of a checkpoint that takes audio features, and video."""
    processor = FoalNetProcessor(None, tiny_processor().video_processor)
    vision_config = tiny_config().vision_config
    folder = tmp_path_factory.mktemp("mixed")
    return make_pipeline(folder, processor, audio_feature_dim=AUDIO_WIDTH, vision_config=vision_config)


@torch.no_grad()
def test_rows_of_features_are_predicted_like_the_model_predicts_them(classify: Any, tmp_path: Path) -> None:
    row = {"audio_features": AUDIO, "video_features": VIDEO}
    inputs = {name: torch.from_numpy(value)[None] for name, value in row.items()}
    expected = classify.model(**inputs).logits[0].softmax(0)
    assert scores_of(classify(row)) == pytest.approx(expected.tolist(), abs=1e-6)
    np.save(tmp_path / "a.npy", AUDIO)
    np.save(tmp_path / "v.npy", VIDEO)
    files = {"audio_features_file": str(tmp_path / "a.npy"), "video_features_file": tmp_path / "v.npy"}
    alone = classify([files, {"audio_features": AUDIO}, {"video_features": VIDEO}, row], batch_size=3)
    assert [scores_of(each) for each in alone] == [
        pytest.approx(scores_of(classify(row, modality=modality)), abs=1e-6)
        for modality in ("both", "audio", "video", "both")
    ]
    assert scores_of(alone[1]) != pytest.approx(scores_of(alone[0]), abs=1e-3)


def test_the_result_says_that_it_is_based_on_features(classify: Any) -> None:
    row = {"audio_features": AUDIO, "video_features": VIDEO, "start_seconds": 1.5, "end_seconds": 4.0}
    result = classify(row, return_evidence=True)
    assert result["modalities"] == ("audio", "video")
    assert (result["start_seconds"], result["end_seconds"]) == (1.5, 4.0)
    notes = ["audio: 11 positions of features that were given, of width 28"]
    notes += ["video: 5 positions of features that were given, of width 20"]
    assert result["notes"] == result["evidence"]["notes"] == notes
    assert result["evidence"]["audio"] is None and result["evidence"]["video"] is None
    embeds = classify({"audio_features": AUDIO}, return_embeddings=True)
    assert embeds["video_embeds"] is None and np.linalg.norm(embeds["audio_embeds"]) == pytest.approx(1)


def test_a_corpus_of_features_is_predicted_row_by_row(classify: Any, tmp_path: Path) -> None:
    corpus = load_corpus("folder", make_feature_folder(tmp_path / "clips"), split="test", cache_dir=tmp_path)
    results = list(classify(corpus, batch_size=2))
    assert len(results) == len(corpus) == 4
    files = {name: corpus[0][name] for name in ("audio_features_file", "video_features_file")}
    assert scores_of(results[0]) == pytest.approx(scores_of(classify(files)), abs=1e-6)


@pytest.mark.parametrize("clip", ["clip.mp4", {"video": "clip.mp4"}, {"audio": "a.wav"}], ids=str)
def test_raw_clips_are_refused_with_the_extractor(classify: Any, clip: Any) -> None:
    message = (
        rf"cannot read audio and video: it takes audio features of width 28 from {EXTRACTOR} and video features of"
    )
    with pytest.raises(ValueError, match=message):
        classify(clip)
    with pytest.raises(ValueError, match="cannot read audio and video"):
        classify("clip.mp4", window_seconds=2)
    with pytest.raises(ValueError, match="`window_seconds` needs a recording: the times of features are not known"):
        classify({"audio_features": AUDIO}, window_seconds=2)


def test_bad_features_are_the_error_of_their_row_alone(classify: Any) -> None:
    rows = [{"audio_features": AUDIO}, {"audio_features": AUDIO * np.nan}, {"audio_features": AUDIO, "vidoe": 1}]
    good, nan, misspelt = classify(rows, on_error="skip")
    assert good == classify(rows[0])
    assert nan["error"].startswith("audio_features: has NaN") and "Unknown key of a row: `vidoe`" in misspelt["error"]
    with pytest.raises(ValueError, match="has nothing for the modality 'video'; it has audio_features"):
        classify({"audio_features": AUDIO}, modality="video")
    with pytest.raises(ValueError, match="27 wide; expected 28: this checkpoint takes audio features"):
        classify({"audio_features": AUDIO[:, :27]})


def test_features_of_one_side_go_with_media_of_the_other(classify_mixed: Any, tmp_path: Path) -> None:
    clip = str(make_clip(tmp_path / "clip.mp4"))
    both = classify_mixed({"video": clip, "audio_features": AUDIO}, return_evidence=True)
    assert both["modalities"] == ("audio", "video") and both["evidence"]["video"] is not None
    assert both["scores"] != classify_mixed(clip, modality="video") != classify_mixed({"audio_features": AUDIO})
    with pytest.raises(ValueError, match=r"cannot read audio: it takes .* give a row, \{'audio_features': \.\.\.\}"):
        classify_mixed(clip)
    with pytest.raises(ValueError, match="cannot read audio"):
        classify_mixed({"audio": clip, "video": clip})


def test_the_commands_say_which_features_a_checkpoint_takes(
    classify: Any, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    assert main(["predict", str(clip), "--model", str(checkpoint)]) == 1
    assert f"it takes audio features of width 28 from {EXTRACTOR}" in capsys.readouterr().err
    with pytest.raises(ValueError, match="cannot read audio and video"):
        annotate([clip], tmp_path / "results.parquet", model=classify)
    assert not (tmp_path / "results.parquet").exists()


def test_the_card_names_the_extractor_and_its_examples_run(classify: Any, checkpoint: Path) -> None:
    card = model_card(classify.model.config)
    assert (
        f"**It takes features, not audio and video as recorded:** audio features of width 28 from {EXTRACTOR}" in card
    )
    assert "an extractor that the checkpoint does not name" in card
    assert f"| audio encoder | none: takes audio features of width 28 from {EXTRACTOR} | 0 | 0 |" in card
    np.save(checkpoint / "clip-audio.npy", AUDIO)
    np.save(checkpoint / "clip-video.npy", VIDEO)
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 3
    script = "\n".join((blocks[0], blocks[2]))
    run = subprocess.run([sys.executable, "-c", script], cwd=checkpoint, capture_output=True, text=True, check=True)
    assert "'label'" in run.stdout and "torch.Size([1, 16]) torch.Size([1, 16])" in run.stdout
    card = model_card(tiny_config())
    assert 'print(classify("clip.mp4"))' in card and "It takes features" not in card
    assert "an audio encoder for the waveform and an image encoder for the frames, aligned by a\ncontrastive" in card
