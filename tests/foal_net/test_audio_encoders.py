"""Audio encoders of every kind: each gives what it gives by hand, whatever the company of a clip in its batch."""

import copy
import math
from typing import Any

import pytest
import torch
from tiny_models import OTHER_AUDIO_ENCODERS, tiny_model
from tiny_processors import tiny_video_processor
from transformers import (
    Wav2Vec2FeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from foal_hf import FoalNetProcessor
from foal_hf.foal_net.media_foal_net import Clip


CLOSE = {"atol": 1e-5, "rtol": 0}
RATE = 16_000
SAMPLES = (14_237, 6_011, 9_973, 300, 6_011)  # the fourth is too short to be audio
KINDS = (*OTHER_AUDIO_ENCODERS, "wav2vec2-conformer")
SPECTROGRAM_KINDS = [kind for kind in OTHER_AUDIO_ENCODERS if kind not in ("moonshine", "sew", "sew-d")]
every_kind = pytest.mark.parametrize("kind", KINDS)


def waveform(samples: int, seed: int = 0) -> torch.Tensor:
    """A tone whose loudness and pitch change, in noise."""
    seconds = torch.arange(samples) / RATE
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    return 0.3 * torch.sin(2 * torch.pi * (200 + 90 * seed + 300 * seconds) * seconds) * (1 + seconds) + 0.02 * noise


def clip(samples: int, seed: int = 0, frames: int = 0) -> Clip:
    video = torch.rand(frames, 3, 26, 26, generator=torch.Generator().manual_seed(seed)) if frames else None
    times = torch.arange(frames) / 5 if frames else None
    return Clip(waveform(samples, seed) if samples else None, RATE if samples else None, video, times, 0.0, 1.0)


def processor_of(kind: str, **fields: Any) -> FoalNetProcessor:
    extractor = (
        copy.deepcopy(OTHER_AUDIO_ENCODERS[kind][1])
        if kind in OTHER_AUDIO_ENCODERS
        else Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    )
    return FoalNetProcessor(extractor, tiny_video_processor(do_normalize=False, max_seconds=0.9, **fields))


def clips() -> list[Clip]:
    return [clip(samples, seed, frames=2) for seed, samples in enumerate(SAMPLES)]


@every_kind
@torch.no_grad()
def test_company_and_padding_change_nothing(kind: str) -> None:
    model, processor = tiny_model(kind), processor_of(kind)
    together = processor.batch([*clips(), clip(0, 9, frames=3)])
    apart = [processor.batch([each]) for each in (*clips(), clip(0, 9, frames=3))]
    got, alone = model(**together), [model(**each) for each in apart]
    assert got.audio_mask.any(dim=1).tolist() == [True, True, True, False, True, False]
    for name in ("logits", "audio_embeds"):
        torch.testing.assert_close(got[name], torch.cat([each[name] for each in alone]), **CLOSE)
    padded = processor.batch(clips(), padding="max_length", max_seconds=0.97)
    torch.testing.assert_close(model(**padded).logits, got.logits[:5], **CLOSE)
    assert got.logits.std() > 0.05


def by_hand(kind: str, encoder: Any, extractor: Any, samples: torch.Tensor) -> torch.Tensor:
    """A clip's sequence from transformers alone, `(positions, width)`."""
    given = extractor(samples.numpy(), sampling_rate=RATE, return_tensors="pt")
    if kind == "whisper":  # an encoder for exactly this clip
        given = extractor(
            samples.numpy(), sampling_rate=RATE, return_tensors="pt", padding="longest", pad_to_multiple_of=320
        )
        config = copy.deepcopy(encoder.config)
        config.max_source_positions = given.input_features.shape[-1] // 2
        short = WhisperEncoder(config).eval()
        weights = encoder.state_dict()
        weights["embed_positions.weight"] = weights["embed_positions.weight"][: config.max_source_positions]
        short.load_state_dict(weights)
        return short(given.input_features).last_hidden_state[0]
    if kind == "ast":
        tokens = encoder(given.input_values.float()).last_hidden_state[0]
        _, rows = encoder.embeddings.get_shape(encoder.config)
        frames = 1 + (len(samples) - 400) // 160
        positions = sum(10 * index < frames for index in range(rows))
        return tokens[2:].unflatten(0, (-1, rows)).mean(0)[: min(positions, rows)]
    if kind == "clap":
        tokens = encoder(given.input_features.float()).last_hidden_state[0].mean(1).T
        return tokens[: math.ceil(math.ceil(len(samples) * 101 / RATE) * len(tokens) / 101)]
    inputs = given[encoder.main_input_name]
    if kind in ("wav2vec2-bert", "seamless-m4t-v2"):  # the last frame may be half padding, which the mask excludes
        inputs = inputs[:, : int(given.attention_mask.sum())]
    return encoder(**{encoder.main_input_name: inputs}).last_hidden_state[0]


@every_kind
@torch.no_grad()
def test_the_sequence_is_that_of_the_encoder_called_by_hand(kind: str) -> None:
    model, processor = tiny_model(kind).foal_net, processor_of(kind)
    batch = processor.batch([clip(6_011, 1), clip(14_237)])
    output = model(**batch)
    for row, (samples, seed) in enumerate(((6_011, 1), (14_237, 0))):
        expected = by_hand(kind, model.audio_encoder, processor.feature_extractor, waveform(samples, seed))
        valid = output.audio_mask[row].bool()
        assert valid.sum() == len(expected) and valid[: len(expected)].all()
        torch.testing.assert_close(output.audio_last_hidden_state[row, valid], expected, **CLOSE)
        assert expected.std(dim=0).mean() > 1e-3  # it changes over time
