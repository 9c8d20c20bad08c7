"""What the first release saved loads today, and gives what it gave then."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForVideoClassification, AutoProcessor

from foal_hf import FoalNetConfig, FoalNetForEmotionClassification, FoalNetProcessor


FOLDER = Path(__file__).parent / "first_release"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def test_the_model_gives_what_it_gave() -> None:
    model, loading = AutoModelForVideoClassification.from_pretrained(FOLDER, output_loading_info=True)
    assert isinstance(model, FoalNetForEmotionClassification)
    assert not any(loading.values())
    seconds = torch.arange(16_000) / 16_000
    waveform = torch.sin(2 * math.pi * 220 * seconds) * torch.linspace(0, 1, 16_000)
    pictures = torch.linspace(-1, 1, 2 * 3 * 26 * 26).reshape(1, 2, 3, 26, 26)
    with torch.no_grad():
        output = model(input_values=waveform[None], pixel_values_videos=pictures)
    for name, values in EXPECTED.items():
        assert output[name][0].tolist() == pytest.approx(values, abs=1e-5), name


def test_the_config_says_what_it_said() -> None:
    config = AutoConfig.from_pretrained(FOLDER)
    assert isinstance(config, FoalNetConfig)
    assert config.id2label == {0: "sad", 1: "calm", 2: "happy"}
    assert (config.evaluation_negatives, config.modality_dropout, config.projection_dim) == ("random", 0.1, 7)


def test_the_processor_says_what_it_said() -> None:
    processor = AutoProcessor.from_pretrained(FOLDER)
    assert isinstance(processor, FoalNetProcessor)
    assert (processor.frames_per_second, processor.max_seconds, processor.sampling_rate) == (3.0, 7.0, 16_000)


def test_a_field_under_its_former_name_loads_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FoalNetConfig, "_renamed", {"embedding_width": "projection_dim"})
    content = json.loads((FOLDER / "config.json").read_text())
    content["embedding_width"] = content.pop("projection_dim")
    (tmp_path / "config.json").write_text(json.dumps(content))
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.projection_dim == 7
    assert not hasattr(config, "embedding_width")
    assert "embedding_width" not in config.to_json_string()
