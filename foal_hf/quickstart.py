"""The main job on generated clips, end to end: train, evaluate, save, load in a new process, predict, draw."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from transformers import (
    CLIPVisionConfig,
    Trainer,
    TrainingArguments,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    pipeline,
    set_seed,
)

from .configuration_foal_net import FoalNetConfig
from .data import ClipCollator, ClipDataset
from .metrics import compute_metrics, emotion_metrics
from .modeling_foal_net import FoalNetForEmotionClassification
from .plots import plot_confusion_matrix, plot_timeline
from .processing_foal_net import FoalNetProcessor
from .registration import TASK
from .resources import model_cards_dir
from .synthetic import EMOTIONS, generate_corpus, generate_recording, read_metadata
from .video_processing_foal_net import FoalNetVideoProcessor


MODALITIES = {"audio alone": ("audio",), "video alone": ("video",), "both": ("audio", "video")}
LABEL2ID = {name: index for index, name in enumerate(EMOTIONS)}
_FRAME_PIXELS = 48
_WINDOW_SECONDS, _STRIDE_SECONDS = 2.0, 0.5


@dataclass(frozen=True)
class QuickstartResult:
    """What the quickstart measured and left behind.

    Args:
        metrics (`dict`): For `"audio alone"`, `"video alone"` and `"both"` what
            [`~foal_hf.metrics.emotion_metrics`] says of the held-out speakers.
        validation_unweighted_accuracy (`float`): Of the chosen epoch, on the validation speakers.
        num_parameters (`int`): Of the model.
        alignment_loss_weight, matching_loss_weight, modality_dropout (`float`): From the model's config.
        num_clips (`dict`): Clips of each partition.
        train_seconds (`float`): Time that training took.
        predictions_agree (`int`): Held-out clips that the saved checkpoint gave the same label in a new process.
        checkpoint (`str`): Folder of model, processor and card.
        confusion_matrix (`str`): Picture.
        timeline (`str`): Picture.
    """

    metrics: dict[str, dict[str, Any]]
    validation_unweighted_accuracy: float
    num_parameters: int
    alignment_loss_weight: float
    matching_loss_weight: float
    modality_dropout: float
    num_clips: dict[str, int]
    train_seconds: float
    predictions_agree: int
    checkpoint: str
    confusion_matrix: str
    timeline: str


def run_quickstart(
    output_dir: str | os.PathLike[str],
    *,
    seed: int = 0,
    num_speakers: int = 24,
    clips_per_emotion: int = 6,
    num_epochs: int = 20,
) -> QuickstartResult:
    """Run everything and leave the results in `output_dir`.

    The clips are generated, so the numbers say that the software works, and nothing about people. The checkpoint is
    chosen on validation speakers; the test speakers are looked at once.

    Args:
        output_dir (`str` or `os.PathLike`): Gets `corpus/` (reused by a second run), `checkpoint/`, `trainer/` (the
            state of training), `results.json`, `confusion_matrix.png`, `recording.mp4` and `timeline.png`.
        seed (`int`, defaults to 0): Of corpus, weights and batches.
        num_speakers, clips_per_emotion: Size of the corpus, as in [`~foal_hf.synthetic.generate_corpus`].
        num_epochs (`int`, defaults to 20): Passes over the training clips.

    Returns:
        [`QuickstartResult`]: Also written as `results.json`.
    """
    output = Path(output_dir)
    corpus = generate_corpus(
        output / "corpus", num_speakers=num_speakers, clips_per_emotion=clips_per_emotion, seed=seed
    )
    rows = {name: read_metadata(corpus, name) for name in ("train", "validation", "test")}

    set_seed(seed)
    model, processor = make_tiny_model(), make_tiny_processor()
    started = time.perf_counter()
    trainer = train(model, processor, rows["train"], rows["validation"], output / "trainer", num_epochs, seed)
    train_seconds = time.perf_counter() - started

    predictions = {
        name: predict(trainer, rows["test"], processor, modalities) for name, modalities in MODALITIES.items()
    }
    labels = list(EMOTIONS)
    truth = [EMOTIONS.index(row["emotion"]) for row in rows["test"]]
    metrics = {name: emotion_metrics(truth, predicted, labels) for name, predicted in predictions.items()}

    checkpoint = output / "checkpoint"
    model.save_pretrained(checkpoint)
    processor.save_pretrained(checkpoint)
    in_new_process = predict_in_new_process(checkpoint, [row["video"] for row in rows["test"]])
    agree = sum(labels[index] == label for index, label in zip(predictions["both"], in_new_process, strict=True))

    result = QuickstartResult(
        metrics=metrics,
        validation_unweighted_accuracy=trainer.state.best_metric or 0.0,
        num_parameters=model.num_parameters(),
        alignment_loss_weight=model.config.alignment_loss_weight,
        matching_loss_weight=model.config.matching_loss_weight,
        modality_dropout=model.config.modality_dropout,
        num_clips={name: len(part) for name, part in rows.items()},
        train_seconds=train_seconds,
        predictions_agree=agree,
        checkpoint=str(checkpoint),
        confusion_matrix=str(
            plot_confusion_matrix(
                metrics["both"]["confusion_matrix"],
                labels,
                output / "confusion_matrix.png",
                title="Held-out generated speakers",
            )
        ),
        timeline=str(draw_recording(checkpoint, output, speaker=num_speakers - 1, seed=seed)),
    )
    (checkpoint / "README.md").write_text(make_card(result), encoding="utf-8")
    (output / "results.json").write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
    return result


def make_tiny_model() -> FoalNetForEmotionClassification:
    """A Foal-Net of some 400 thousand parameters that learns from scratch in about a minute of CPU time.

    The encoders are trained here, so nothing is frozen. Patches are as large as a mouth, since few pictures teach a
    small transformer little about smaller ones, and its first weights are larger than in CLIP, which speeds up the
    start. Training hides one modality of half of the clips, so that either alone is of use. The alignment loss, a sum
    over the batch, counts less than published: beside encoders that know nothing yet it drowns the classification.
    """
    audio_config = WavLMConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(128, 64),
        conv_kernel=(400, 3),
        conv_stride=(160, 2),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_buckets=32,
        max_bucket_distance=128,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        mask_time_prob=0.0,
        layerdrop=0.0,
    )
    vision_config = CLIPVisionConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=_FRAME_PIXELS,
        patch_size=16,
        projection_dim=64,
        initializer_range=0.1,
    )
    config = FoalNetConfig(
        audio_config=audio_config,
        vision_config=vision_config,
        projection_dim=64,
        sequence_dropout=0.0,
        alignment_loss_weight=0.1,
        modality_dropout=0.5,
        freeze_vision_encoder=False,
        freeze_audio_feature_encoder=False,
        trained_on_generated_data=True,
        id2label=dict(enumerate(EMOTIONS)),
    )
    return FoalNetForEmotionClassification(config)


def make_tiny_processor() -> FoalNetProcessor:
    """The processor that belongs to [`make_tiny_model`]."""
    return FoalNetProcessor(
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True),
        FoalNetVideoProcessor(
            size={"height": _FRAME_PIXELS, "width": _FRAME_PIXELS}, resample=2, do_center_crop=False, crop_size=None
        ),
    )


def train(
    model: FoalNetForEmotionClassification,
    processor: FoalNetProcessor,
    train_rows: Sequence[dict[str, Any]],
    validation_rows: Sequence[dict[str, Any]],
    output_dir: Path,
    num_epochs: int,
    seed: int,
) -> Trainer:
    """Train with the plain Trainer of transformers and end with the epoch that is best on the validation speakers."""
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        num_train_epochs=num_epochs,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=32,
        learning_rate=1e-3,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        max_grad_norm=5.0,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="unweighted_accuracy",
        logging_strategy="epoch",
        remove_unused_columns=False,
        dataloader_pin_memory=torch.accelerator.is_available(),
        report_to=[],
        seed=seed,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=ClipDataset(train_rows, processor, LABEL2ID, keep_in_memory=True),
        eval_dataset=ClipDataset(validation_rows, processor, LABEL2ID, keep_in_memory=True),
        data_collator=ClipCollator(processor),
        compute_metrics=compute_metrics,
    )
    trainer.train()
    return trainer


def predict(
    trainer: Trainer, rows: Sequence[dict[str, Any]], processor: FoalNetProcessor, modalities: tuple[str, ...]
) -> np.ndarray:
    """Class index of each row, `(rows,)`, from the given modalities."""
    clips = ClipDataset(rows, processor, LABEL2ID, modalities=modalities)
    return np.asarray(trainer.predict(clips).predictions).argmax(axis=-1)


def predict_in_new_process(checkpoint: Path, files: Sequence[str]) -> list[str]:
    """The most likely label of each file, from `foal-hf predict` in a process that has nothing but the checkpoint."""
    command = [sys.executable, "-m", "foal_hf", "predict", "--model", str(checkpoint), "--top-k", "1", "--json"]
    finished = subprocess.run([*command, *files], stdout=subprocess.PIPE, check=True, text=True)
    return [entry["scores"][0]["label"] for entry in json.loads(finished.stdout)]


def draw_recording(checkpoint: Path, output: Path, *, speaker: int, seed: int) -> Path:
    """Generate a recording of a held-out speaker going through all emotions, and draw what the checkpoint says."""
    recording = output / "recording.mp4"
    emotions = [EMOTIONS[index] for index in (1, 0, 3, 2)]
    truth = generate_recording(recording, emotions, speaker=speaker, seconds_each=4.0, seed=seed)
    starts = np.arange(0.0, truth[-1][1] - _WINDOW_SECONDS + 1e-6, _STRIDE_SECONDS).tolist()
    windows = [
        {"video": str(recording), "start_seconds": start, "end_seconds": start + _WINDOW_SECONDS} for start in starts
    ]
    classify: Any = pipeline(TASK, model=str(checkpoint))  # type: ignore[call-overload]
    answers = classify(windows)
    segments = [
        {
            "start_seconds": window["start_seconds"],
            "end_seconds": window["end_seconds"],
            "scores": {entry["label"]: entry["score"] for entry in answer},
        }
        for window, answer in zip(windows, answers, strict=True)
    ]
    return plot_timeline(
        segments,
        output / "timeline.png",
        labels=list(EMOTIONS),
        truth=truth,
        title="One held-out generated speaker going through four emotions",
        note="Generated voice and drawn face: the numbers say nothing about real people.",
    )


def render_table(result: QuickstartResult) -> str:
    """UA and WA on the held-out speakers for sound, picture and both, as a Markdown table."""
    lines = ["| held-out speakers | UA | WA |", "| --- | --- | --- |"]
    for name, metrics in result.metrics.items():
        lines.append(f"| {name} | {metrics['unweighted_accuracy']:.1%} | {metrics['weighted_accuracy']:.1%} |")
    return "\n".join(lines)


def make_card(result: QuickstartResult) -> str:
    """The model card of a quickstart checkpoint, filled from what was measured."""
    template = Template((model_cards_dir() / "generated_corpus.md").read_text(encoding="utf-8"))
    return template.substitute(
        table=render_table(result),
        num_parameters=f"{result.num_parameters:,}",
        validation=f"{result.validation_unweighted_accuracy:.1%}",
        alignment_weight=result.alignment_loss_weight,
        matching_weight=result.matching_loss_weight,
        modality_dropout=f"{result.modality_dropout:.0%}",
        **{f"num_{name}": count for name, count in result.num_clips.items()},
    )
