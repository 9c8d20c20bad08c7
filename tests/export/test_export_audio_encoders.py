"""Checkpoints with audio encoders of every kind in graphs: each gives what it gives in torch."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from requirements import need
from tiny_models import OTHER_AUDIO_ENCODERS, tiny_model
from tiny_processors import tiny_video_processor
from transformers import Wav2Vec2FeatureExtractor

from foal_hf import FoalNetProcessor
from foal_hf.export import export_checkpoint
from foal_hf.export.exported import load_exported
from foal_hf.foal_net.media_foal_net import Clip


def clip(samples: int, frames: int) -> Clip:
    audio = torch.randn(samples, generator=torch.Generator().manual_seed(samples)) if samples else None
    video, times = (torch.rand(frames, 3, 26, 26), torch.arange(frames) / 5) if frames else (None, None)
    return Clip(audio, 16_000 if samples else None, video, times, 0.0, 1.0)


def processor_of(kind: str) -> FoalNetProcessor:
    waveforms = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    extractor = OTHER_AUDIO_ENCODERS[kind][1] if kind in OTHER_AUDIO_ENCODERS else waveforms
    return FoalNetProcessor(copy.deepcopy(extractor), tiny_video_processor(do_normalize=False, max_seconds=0.9))


@pytest.mark.parametrize(
    ("format", "kind", "layers"),
    [
        ("openvino", "wavlm", [1, 2]),
        ("openvino", "wav2vec2-conformer", "last"),
        ("openvino", "wav2vec2-bert", "last"),
        ("openvino", "parakeet", "last"),
        ("openvino", "seamless-m4t-v2", "last"),
        ("openvino", "moonshine", "last"),
        ("openvino", "whisper", "all"),
        ("openvino", "ast", "all"),
        ("openvino", "clap", "last"),
        ("onnx", "whisper", "last"),
        ("onnx", "wav2vec2-bert", "last"),
    ],
)
def test_graphs_of_audio_encoders_give_what_torch_gives(format: str, kind: str, layers: Any, tmp_path: Path) -> None:
    need(format)
    model, processor = tiny_model(kind, audio_layers=layers), processor_of(kind)
    if layers != "last":
        with torch.no_grad():
            model.foal_net.audio_layer_weights.copy_(torch.arange(len(model.foal_net.audio_layer_weights)).float())
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    export = export_checkpoint(tmp_path, tmp_path / "export", format=format)
    assert export.max_difference < 1e-4
    graphs = load_exported(export.folder)
    together = [clip(14_237, 2), clip(6_331, 1), clip(300, 2), clip(6_331, 0), clip(0, 3)]
    for batch in (processor.batch(together), processor.batch([clip(9_973, 3)])):
        with torch.no_grad():
            expected = model(**batch)
        got = graphs(**batch)
        for name in ("logits", "audio_embeds", "audio_mask"):
            torch.testing.assert_close(got[name], expected[name], atol=1e-4, rtol=0)


def test_what_the_window_of_a_graph_does_not_take_is_refused(tmp_path: Path) -> None:
    need("openvino")
    tiny_model("whisper").save_pretrained(tmp_path)
    processor_of("whisper").save_pretrained(tmp_path)
    graphs = load_exported(export_checkpoint(tmp_path, tmp_path / "export").folder)
    with pytest.raises(ValueError, match=r"A clip of 124 frames; .* at most 122"):
        graphs(input_features=torch.zeros(1, 17, 124))


def test_an_encoder_without_a_graph_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("openvino")

    def write(*_: Any) -> None:
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr("foal_hf.export._openvino_writer", lambda dtype: write)
    tiny_model("ast").save_pretrained(tmp_path)
    processor_of("ast").save_pretrained(tmp_path)
    message = (
        r"of type 'audio-spectrogram-transformer', which has no graph for openvino \(RuntimeError: no such operator\)"
    )
    with pytest.raises(ValueError, match=message):
        export_checkpoint(tmp_path, tmp_path / "export")
    assert list((tmp_path / "export").iterdir()) == []
