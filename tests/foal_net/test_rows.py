"""What a row of a clip may have, and that nothing else is ignored."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import Audio, Dataset, Video
from media_builders import make_clip, tone
from tiny_models import tiny_model
from tiny_processors import tiny_processor
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from foal_hf import AudioVideoEmotionPipeline, ClipDataset


LABEL2ID = {"happy": 0, "neutral": 1, "sad": 2, "angry": 3}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("media")
    return SimpleNamespace(both=make_clip(folder / "both.mp4"), audio=make_clip(folder / "audio.wav", video=None))


@pytest.fixture(scope="module")
def classify() -> AudioVideoEmotionPipeline:
    model = tiny_model()
    return pipeline("audio-video-emotion", model=model, processor=tiny_processor())


def scores(entries: Any) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in entries}


@pytest.mark.parametrize("windows", [{}, {"window_seconds": 2}], ids=["clip", "timeline"])
def test_the_pipeline_refuses_an_unknown_key(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, windows: dict[str, Any]
) -> None:
    for row, words in (
        ({"video": media.both, "strat_seconds": 1.0}, r"`strat_seconds` \(did you mean `start_seconds`\?\)"),
        ({"audio": media.audio, "label": 3}, "`label`. A row may have audio, video, start_seconds"),
        ({"path": str(media.both), "strat_seconds": 1.0}, "`strat_seconds`"),
        ({"video": {"path": str(media.both), "start": 1.0}}, "`start`"),
    ):
        with pytest.raises(ValueError, match=words):
            classify(row, **windows)
        (skipped,) = classify([row], on_error="skip", **windows)
        assert skipped["error_type"] == "ValueError"


def test_columns_of_a_table_are_not_keys_of_a_row_unless_misspelled(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    rows = Dataset.from_dict({"video": [str(media.both)], "label": [3], "start_seconds": [0.5], "duration": [3.0]})
    expected = scores(classify(media.both, start_seconds=0.5))
    for table in (rows, rows.to_iterable_dataset()):
        (result,) = classify(table)
        assert scores(result) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match=r"`strat_seconds` \(did you mean `start_seconds`\?\)"):
        classify(rows.rename_column("start_seconds", "strat_seconds"))


def test_examples_for_training_refuse_an_unknown_key(media: SimpleNamespace) -> None:
    row = {"video": str(media.both), "emotion": "sad", "clip_id": "a", "speaker": "1"}
    assert len(ClipDataset([row], tiny_processor(), LABEL2ID)) == 1
    for rows in ([{**row, "strat_seconds": 1.0}], Dataset.from_list([{**row, "strat_seconds": 1.0}])):
        with pytest.raises(ValueError, match=r"`strat_seconds` \(did you mean `start_seconds`\?\)"):
            ClipDataset(rows, tiny_processor(), LABEL2ID)
    other = [{**row, "seconds": 1.0}]  # a column for another purpose
    for rows in (other, Dataset.from_list(other)):
        assert len(ClipDataset(rows, tiny_processor(), LABEL2ID)) == 1


def test_the_processor_refuses_an_unknown_key(media: SimpleNamespace) -> None:
    source = {"path": str(media.both), "strat_seconds": 1.0}
    for arguments in ({"audio": source}, {"videos": source}, {"videos": [source], "load_audio_from_video": True}):
        with pytest.raises(ValueError, match="`strat_seconds`"):
            tiny_processor()(**arguments)
    with pytest.raises(TypeError, match="strat_seconds"):
        tiny_processor()(videos=media.both, strat_seconds=1.0)


def test_audio_comes_as_raw_too(classify: AudioVideoEmotionPipeline) -> None:
    samples = tone(440, 8_000, 0.5).numpy()
    expected = scores(classify({"array": samples, "sampling_rate": 8_000}))
    raw = {"raw": samples, "sampling_rate": 8_000}
    for row in (raw, {"audio": raw}):
        assert scores(classify(row)) == pytest.approx(expected, abs=1e-6)
    inputs = tiny_processor()(audio=raw)
    assert inputs["input_values"].equal(tiny_processor()(audio=samples, sampling_rate=8_000)["input_values"])
    clip = ClipDataset([{"audio": raw, "emotion": "sad"}], tiny_processor(), LABEL2ID)[0]["clip"]
    assert len(clip.waveform) == 8_000
    with pytest.raises(ValueError, match="sampling rate"):
        classify({"raw": np.zeros(800, np.float32)})


def test_an_audio_column_is_audio_and_a_video_column_is_both(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    files = [str(media.both)]
    table = Dataset.from_dict({"audio": files}).cast_column("audio", Audio())
    expected = scores(classify(media.both, modality="audio"))
    for clips in (table, KeyDataset(table, "audio"), table["audio"], [table[0]], [table[0]["audio"]]):
        (result,) = classify(clips)
        assert scores(result) == pytest.approx(expected, abs=1e-6)
    table = Dataset.from_dict({"video": files}).cast_column("video", Video())
    expected = scores(classify(media.both))
    for clips in (table, KeyDataset(table, "video"), table["video"], [table[0]], [table[0]["video"]]):
        (result,) = classify(clips)
        assert scores(result) == pytest.approx(expected, abs=1e-6)
