"""Short noisy waveforms and stored video features, so that training needs no media and takes a second."""

from pathlib import Path
from typing import Any

import torch
from tiny_models import tiny_config, with_random_biases
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from foal_hf.experiments.recipe import load_recipe
from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification
from foal_hf.training import FoalNetTrainingArguments


VIDEO_WIDTH = 20
CLASSES = 4


class Examples(Dataset):
    """Clips that tell everything beforehand. Two of three belong to the first two classes."""

    def __init__(self, num_clips: int = 23, seed: int = 0, first_speaker: int = 0, shortest: int = 401) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = [(0, 1, 0, 1, 2, 3)[index % 6] for index in range(num_clips)]
        self.lengths = [shortest + 61 * (index * 7 % num_clips) for index in range(num_clips)]
        self.speakers = [f"speaker{first_speaker + index % 3}" for index in range(num_clips)]
        self.clip_ids = [f"clip{index:02d}" for index in range(num_clips)]
        # The label is heard as loudness and seen as brightness.
        self.waveforms = [
            torch.randn(length, generator=generator) * (0.2 + label)
            for length, label in zip(self.lengths, self.labels, strict=True)
        ]
        self.features = [
            torch.randn(2 + index % 5, VIDEO_WIDTH, generator=generator) + label
            for index, label in enumerate(self.labels)
        ]

    def __len__(self) -> int:
        return len(self.waveforms)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"waveform": self.waveforms[index], "features": self.features[index], "labels": self.labels[index]}


def collate(examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad with zeros."""
    batch = {"labels": torch.tensor([example["labels"] for example in examples])}
    for name, mask, kind in (
        ("input_values", "attention_mask", "waveform"),
        ("video_features", "padding_mask_videos", "features"),
    ):
        batch[name] = pad_sequence([example[kind] for example in examples], batch_first=True)
        lengths = torch.tensor([len(example[kind]) for example in examples])
        batch[mask] = (torch.arange(batch[name].shape[1]) < lengths[:, None]).long()
    return batch


def make_model(*, dropout: bool = True, **fields: Any) -> FoalNetForEmotionClassification:
    """A tiny classifier, the same on every call."""
    torch.manual_seed(0)
    model = with_random_biases(FoalNetForEmotionClassification(tiny_config(**fields)))
    if not dropout:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for layer in model.foal_net.audio_encoder.encoder.layers:
            layer.attention.dropout = 0.0
    return model


def make_published_model() -> FoalNetForEmotionClassification:
    """A tiny classifier with everything random that the published one has: masked audio, layer drop, MEM negatives."""
    settings = {name: value for name, value in load_recipe("paper").config.items() if name != "projection_dim"}
    config = tiny_config(**settings)
    for name, value in {"mask_time_prob": 0.075, "layerdrop": 0.1, "hidden_dropout": 0.1}.items():  # of WavLM-large
        setattr(config.audio_config, name, value)
    torch.manual_seed(0)
    return FoalNetForEmotionClassification(config)


def make_arguments(folder: Path, **fields: Any) -> FoalNetTrainingArguments:
    """Two epochs of batches of 4 on the CPU, a log line each step, nothing saved."""
    defaults: dict[str, Any] = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 5,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "dataloader_num_workers": 0,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "seed": 3,
    }
    return FoalNetTrainingArguments(output_dir=str(folder), **{**defaults, **fields})
