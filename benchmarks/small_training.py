"""How foal-net-small is trained: the voice, the face, and then Foal-Net on pairs of both.

Every stage is given the indices of the examples that it may see. Random numbers come from the seed alone, and torch has
one thread, so that a run repeats to the bit on one machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from small_signals import (
    Faces,
    Voices,
    draw_spectrogram,
    indices,
    pad,
    shares,
    vary_faces,
)
from torch import nn
from tqdm import tqdm

from foal_hf import FoalNetConfig, FoalNetForEmotionClassification
from foal_hf.experiments.small import make_small_model, make_small_processor
from foal_hf.foal_net.features_foal_net import pad_features


LABELS = ["happy", "neutral", "sad", "angry"]
VOICE_LABELS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]


@dataclass(frozen=True)
class Settings:
    """Sizes of the three trainings. The defaults are those of the shipped weights."""

    voice_epochs: int = 45
    voice_batch: int = 32
    voice_frames: int = 128  # of 20 ms
    voice_rate: float = 2e-3
    voice_emotion: float = 2.0
    voice_teacher: float = 2.0
    face_epochs: int = 20
    face_batch: int = 48
    face_rate: float = 3e-3
    face_teacher: float = 3.0
    face_views: int = 6
    faces_of_a_class: int = 600
    pair_steps: int = 300
    pair_batch: int = 64
    pair_rate: float = 1e-3


def train_voice(
    model: FoalNetForEmotionClassification, voices: Voices, seen: np.ndarray, seed: int, settings: Settings
) -> None:
    """Train the audio encoder on eight emotions and towards the teacher's embeddings."""
    random = np.random.default_rng(seed)
    teacher = _standardized([voices.embeddings[index] for index in seen])
    targets = {int(index): teacher(voices.embeddings[index]) for index in seen}
    width = model.config.audio_width
    heads = nn.ModuleDict(
        {
            "emotion": nn.Sequential(nn.Dropout(0.2), nn.Linear(width, len(VOICE_LABELS))),
            "teacher": nn.Linear(width, voices.embeddings[0].shape[1]),
        }
    )
    classes = indices(voices.emotions, VOICE_LABELS)

    def loss(batch: np.ndarray) -> torch.Tensor:
        drawn = [draw_spectrogram(voices, int(index), settings.voice_frames, random) for index in batch]
        spectrograms, mask = pad([spectrogram for spectrogram, _ in drawn])
        encoded, valid = model.foal_net.encode_audio(input_features=spectrograms, attention_mask=mask)
        sequence = encoded.last_hidden_state
        mean = sequence.sum(1) / valid.sum(1, keepdim=True)
        emotion = F.cross_entropy(heads["emotion"](mean), classes[batch], label_smoothing=0.1)
        step = round(spectrograms.shape[1] / sequence.shape[1])
        goal, known = zip(
            *(
                _at(targets[int(index)], places[step // 2 :: step], sequence.shape[1])
                for index, (_, places) in zip(batch, drawn, strict=True)
            ),
            strict=True,
        )
        known = torch.stack(known) & valid
        error = (heads["teacher"](sequence) - torch.stack(goal)).square().mean(-1)
        return settings.voice_emotion * emotion + settings.voice_teacher * error[known].sum() / known.sum().clamp(min=1)

    parameters = [*model.foal_net.audio_encoder.parameters(), *heads.parameters()]
    batches = _batches(seen, None, settings.voice_batch, settings.voice_epochs, random)
    model.train()
    _optimize(parameters, batches, loss, settings.voice_rate, 0.05, "voice")
    model.eval()


def train_face(
    model: FoalNetForEmotionClassification, faces: Faces, seen: np.ndarray, seed: int, settings: Settings
) -> None:
    """Train the image encoder on four emotions and towards the teacher's features."""
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    targets = torch.zeros_like(faces.features)
    targets[seen] = _standardized([faces.features[seen]])(faces.features[seen])
    width, pixels = model.config.video_width, _pixels()
    heads = nn.ModuleDict(
        {
            "emotion": nn.Sequential(nn.Dropout(0.2), nn.Linear(width, len(LABELS))),
            "teacher": nn.Linear(width, faces.features.shape[1]),
        }
    )
    classes = indices(faces.emotions, LABELS)
    model.foal_net.vision_encoder.to(memory_format=torch.channels_last)

    def loss(batch: np.ndarray) -> torch.Tensor:
        images = vary_faces(faces.images[batch], pixels, generator)
        with torch.autocast("cpu", torch.bfloat16):  # four times as fast where the processor has it
            encoded, _ = model.foal_net.encode_video(images[:, None])
        pooled = encoded.last_hidden_state[:, 0].float()
        emotion = F.cross_entropy(heads["emotion"](pooled), classes[batch], label_smoothing=0.1)
        return emotion + settings.face_teacher * F.mse_loss(heads["teacher"](pooled), targets[batch])

    parameters = [*model.foal_net.vision_encoder.parameters(), *heads.parameters()]
    share = shares([faces.emotions[index] for index in seen], 0.7)
    batches = _batches(seen, share, settings.face_batch, settings.face_epochs, random)
    model.train()
    _optimize(parameters, batches, loss, settings.face_rate, 0.1, "face")
    model.eval()


@dataclass(frozen=True)
class Sequences:
    """What the trained encoders give for the training examples, by label: for each example several variations."""

    audio: dict[str, list[list[torch.Tensor]]]
    video: dict[str, list[torch.Tensor]]


@torch.no_grad()
def encode(
    model: FoalNetForEmotionClassification,
    voices: Voices,
    seen_voices: np.ndarray,
    faces: Faces,
    seen_faces: np.ndarray,
    seed: int,
    settings: Settings,
) -> Sequences:
    """Encode all variations of the voices, and some of as many faces of each emotion."""
    random, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    audio: dict[str, list[list[torch.Tensor]]] = {label: [] for label in LABELS}
    video: dict[str, list[torch.Tensor]] = {label: [] for label in LABELS}
    for index in (int(index) for index in seen_voices if voices.emotions[index] in LABELS):
        parts = [
            spectrogram.float()[start : start + length]
            for spectrogram in voices.spectrograms[index]
            for start, length in ((0, len(spectrogram)), _part(len(spectrogram), random))
        ]
        batch, mask = pad(parts)
        encoded, valid = model.foal_net.encode_audio(input_features=batch, attention_mask=mask)
        rows = zip(encoded.last_hidden_state, valid, strict=True)
        audio[voices.emotions[index]].append([row[known].clone() for row, known in rows])
    for label in LABELS:
        own = [int(index) for index in seen_faces if faces.emotions[index] == label]
        for index in random.permutation(own)[: settings.faces_of_a_class]:
            views = vary_faces(faces.images[index].repeat(settings.face_views, 1, 1, 1), _pixels(), generator)
            video[label].append(model.foal_net.encode_video(views[:, None])[0].last_hidden_state[:, 0])
    return Sequences(audio, video)


def train_pairs(
    model: FoalNetForEmotionClassification,
    sequences: Sequences,
    seed: int,
    settings: Settings,
    *,
    modalities: Sequence[str] = ("audio", "video"),
    **losses: Any,
) -> FoalNetForEmotionClassification:
    """Train alignment, fusion and heads on pairs of a voice with a face of the same emotion, drawn anew each step.

    Args:
        model: Its trained encoders gave the sequences. It stays as it is.
        modalities: What the model is given.
        **losses: Fields of the config that differ, such as `alignment_loss_weight`.

    Returns:
        A copy of the model with the trained rest.
    """
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    fields = model.config.to_dict() | {"audio_config": None, "vision_config": None, "vision_pooling": None}
    widths = {"audio_feature_dim": model.config.audio_width, "video_feature_dim": model.config.video_width}
    if len(modalities) < 2:
        losses |= {"modality_dropout": 0.0}
    head = FoalNetForEmotionClassification(FoalNetConfig.from_dict({**fields, **widths, **losses}))

    def loss(labels: np.ndarray) -> torch.Tensor:
        audio = [_drawn(sequences.audio[LABELS[label]], random) for label in labels]
        video = [_drawn(sequences.video[LABELS[label]], random) for label in labels]
        inputs: dict[str, torch.Tensor] = {"labels": torch.from_numpy(labels)}
        if "audio" in modalities:
            variations = [each[int(random.integers(len(each)))] for each in audio]
            inputs["audio_features"], inputs["attention_mask"] = pad_features(variations)
        if "video" in modalities:
            clips = [each[random.integers(len(each), size=int(random.integers(1, 6)))] for each in video]
            inputs["video_features"], inputs["padding_mask_videos"] = pad_features(clips)
        return head(**inputs).loss

    balanced = np.tile(np.arange(len(LABELS)), settings.pair_batch // len(LABELS))
    head.train()
    _optimize(head.parameters(), [balanced] * settings.pair_steps, loss, settings.pair_rate, 0.05, "pairs")
    trained = make_small_model()
    trained.config = FoalNetConfig.from_dict(model.config.to_dict() | losses)
    trained.load_state_dict({**model.state_dict(), **head.state_dict()})
    return trained.eval()


def _standardized(sequences: Sequence[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Scale the teacher's numbers to mean 0 and variance 1, by what may be seen, without outliers."""
    seen = torch.cat(list(sequences))
    mean, deviation = seen.mean(0), seen.std(0) + 1e-3
    return lambda features: ((features - mean) / deviation).clamp(-4, 4)


def _at(embeddings: torch.Tensor, places: torch.Tensor, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings between two of the teacher's positions, for each of the encoder's, and where there are any."""
    goal, known = torch.zeros(positions, embeddings.shape[1]), torch.zeros(positions, dtype=torch.bool)
    places = places[:positions]
    inside = places.clamp(0, len(embeddings) - 1.001)
    low = inside.floor().long()
    share = (inside - low)[:, None]
    goal[: len(places)] = embeddings[low] * (1 - share) + embeddings[(low + 1).clamp(max=len(embeddings) - 1)] * share
    known[: len(places)] = (places >= 0) & (places <= len(embeddings) - 1)
    return goal, known


def _batches(
    seen: np.ndarray, share: np.ndarray | None, size: int, epochs: int, random: np.random.Generator
) -> list[np.ndarray]:
    """Batches of all epochs: each example once an epoch, or as often as its share says."""
    batches = []
    for _ in range(epochs):
        order = random.permutation(seen) if share is None else random.choice(seen, len(seen), p=share)
        batches += [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    return batches


def _optimize(
    parameters: Any,
    batches: Sequence[np.ndarray],
    loss: Callable[[np.ndarray], torch.Tensor],
    rate: float,
    decay: float,
    name: str,
) -> None:
    """A step on each batch: AdamW, one cycle of the learning rate."""
    parameters = list(parameters)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=len(batches) + 1, pct_start=0.15)
    for batch in tqdm(batches, desc=name, mininterval=10, disable=None):
        value = loss(batch)
        if not torch.isfinite(value):
            raise FloatingPointError(f"The loss of the {name} is {value.item()}; lower its learning rate.")
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()


def _part(frames: int, random: np.random.Generator) -> tuple[int, int]:
    """Start and length of a part of at least a second: people are not always in the middle of a window."""
    length = int(random.integers(min(50, frames), frames + 1))
    return int(random.integers(frames - length + 1)), length


def _drawn(examples: Sequence[Any], random: np.random.Generator) -> Any:
    return examples[int(random.integers(len(examples)))]


def _pixels() -> int:
    return make_small_processor().video_processor.crop_size["height"]
