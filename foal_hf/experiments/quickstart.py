"""The whole job on generated clips: train, evaluate, save, load in a new process, predict, plot."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments, pipeline, set_seed

from ..atomic_files import write_file
from ..data import ClipCollator, ClipDataset
from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification
from ..foal_net.processing_foal_net import FoalNetProcessor
from ..hub.cards import model_card
from ..hub.cards.markdown import percent, table
from ..metrics import compute_metrics
from ..plots import plot_confusion_matrix, plot_timeline
from ..registration import TASK
from ..results import Corpus, Encoder, Evaluation, Latency, Protocol, Results, Split, installed_versions
from ..results.latency import measure_latency
from ..synthetic import EMOTIONS, GENERATOR_VERSION, STATEMENT, generate_corpus, generate_recording, read_metadata
from ..training.description import best_epoch, describe_training
from .predictions import CONDITIONS
from .tiny import make_tiny_model, make_tiny_processor


LABEL2ID = {name: index for index, name in enumerate(EMOTIONS)}
_WINDOW_SECONDS, _STRIDE_SECONDS = 2.0, 0.5

_Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class QuickstartResult:
    """Results and files of the quickstart.

    Args:
        results ([`~foal_hf.results.Results`]): As in `results.json`.
        train_seconds (`float`): Training time.
        predictions_agree (`int`): Test clips with the same predicted label from the saved checkpoint in a new process.
        checkpoint (`str`): Folder of model, processor, card and results file.
        confusion_matrix, timeline (`str`): Image files.
    """

    results: Results
    train_seconds: float
    predictions_agree: int
    checkpoint: str
    confusion_matrix: str
    timeline: str

    @property
    def num_clips(self) -> dict[str, int]:
        """Clips of each split."""
        return {name: split.num_clips for name, split in self.results.splits.items()}


def run_quickstart(
    output_dir: str | os.PathLike[str],
    *,
    seed: int = 0,
    num_speakers: int = 24,
    clips_per_emotion: int = 6,
    num_epochs: int = 20,
) -> QuickstartResult:
    """Run everything and write the results to `output_dir`.

    The clips are generated, so the results show that the software works, and nothing about people. The checkpoint is
    chosen on validation speakers; the test split is evaluated once.

    Args:
        output_dir (`str` or `os.PathLike`): Gets `corpus/` (reused by a second run), `checkpoint/`, `trainer/` (the
            checkpoints of Trainer), `results.json`, `confusion_matrix.png`, `recording.mp4` and `timeline.png`.
        seed (`int`, defaults to 0): Of corpus, weights and batches.
        num_speakers, clips_per_emotion: Size of the corpus, as in [`~foal_hf.synthetic.generate_corpus`].
        num_epochs (`int`, defaults to 20): Passes over the training clips.

    Returns:
        [`QuickstartResult`]: Its `results` are also written as `results.json`, to `output_dir` and to the checkpoint.
    """
    output = Path(output_dir)
    checkpoint = output / "checkpoint"
    corpus = generate_corpus(
        output / "corpus", num_speakers=num_speakers, clips_per_emotion=clips_per_emotion, seed=seed
    )
    rows = {name: read_metadata(corpus, name) for name in ("train", "validation", "test")}

    started = time.perf_counter()
    with _one_thread():
        set_seed(seed)
        model, processor = make_tiny_model(), make_tiny_processor()
        trainer = train(model, processor, rows["train"], rows["validation"], output / "trainer", num_epochs, seed)
        train_seconds = time.perf_counter() - started
        training = describe_training(
            trainer.args,
            model.config,
            processor,
            recipe="quickstart",
            audio_encoder=Encoder(pretrained=False),
            vision_encoder=Encoder(pretrained=False),
            seconds=train_seconds,
        )
        predictions = {
            name: predict(trainer, rows["test"], processor, modalities) for name, modalities in CONDITIONS.items()
        }
    model.save_pretrained(checkpoint)
    processor.save_pretrained(checkpoint)
    in_new_process = predict_in_new_process(checkpoint, [row["video"] for row in rows["test"]])
    agree = sum(EMOTIONS[index] == label for index, label in zip(predictions["both"], in_new_process, strict=True))

    conditions = {name: evaluate(rows["test"], predicted) for name, predicted in predictions.items()}
    results = Results(
        corpus=describe_corpus(num_speakers, clips_per_emotion),
        labels=list(EMOTIONS),
        protocol=Protocol("speaker-disjoint", "No speaker is in two of the splits for training, validation and test."),
        selection="validation",
        conditions=conditions,
        splits={
            name: Split(len(split), len({row["speaker"] for row in split}), [row["file_name"] for row in split])
            for name, split in rows.items()
        },
        seeds=[seed],
        selected_epoch=best_epoch(trainer.state),
        selection_score=trainer.state.best_metric,
        license="apache-2.0",
        training=training,
        latency=[time_one_clip(checkpoint, rows["test"][0])],
        versions=installed_versions(),
    )
    for folder in (output, checkpoint):
        results.save(folder / "results.json")
    write_file(checkpoint / "README.md", model_card(model.config, results))
    matrix = plot_confusion_matrix(
        conditions["both"].confusion_matrix,
        EMOTIONS,
        output / "confusion_matrix.png",
        title="Held-out generated speakers",
    )
    return QuickstartResult(
        results=results,
        train_seconds=train_seconds,
        predictions_agree=agree,
        checkpoint=str(checkpoint),
        confusion_matrix=str(matrix),
        timeline=str(draw_recording(checkpoint, output, speaker=num_speakers - 1, seed=seed)),
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch in one thread, so that repeated runs give identical weights.

    With several threads the order of sums can change between runs, and training amplifies the difference. One thread
    takes 1.5 times as long.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def train(
    model: FoalNetForEmotionClassification,
    processor: FoalNetProcessor,
    train_rows: Sequence[dict[str, Any]],
    validation_rows: Sequence[dict[str, Any]],
    output_dir: Path,
    num_epochs: int,
    seed: int,
) -> Trainer:
    """Train with the plain Trainer of transformers and load the best epoch on the validation speakers."""
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
    """Predicted class index of each row, `(rows,)`, from the given modalities."""
    clips = ClipDataset(rows, processor, LABEL2ID, modalities=modalities)
    return np.asarray(trainer.predict(clips).predictions).argmax(axis=-1)


def predict_in_new_process(checkpoint: Path, files: Sequence[str]) -> list[str]:
    """The predicted label of each file, from `foal-hf predict` in a process that has only the checkpoint."""
    command = [sys.executable, "-m", "foal_hf", "predict", "--model", str(checkpoint), "--top-k", "1", "--json"]
    finished = subprocess.run([*command, *files], stdout=subprocess.PIPE, check=True, text=True)
    return [entry["scores"][0]["label"] for entry in json.loads(finished.stdout)]


def evaluate(rows: _Rows, predicted: np.ndarray) -> Evaluation:
    """Scores with intervals by speaker, and the same for each gender of the generated voices."""
    return Evaluation.from_predictions(
        [LABEL2ID[row["emotion"]] for row in rows],
        predicted,
        EMOTIONS,
        clusters=[row["speaker"] for row in rows],
        groups={"gender": [row["gender"] for row in rows]},
    )


def time_one_clip(checkpoint: Path, row: dict[str, Any]) -> Latency:
    """Latency of the pipeline, from a file to its scores."""
    classify: Any = pipeline(TASK, model=str(checkpoint), device="cpu")  # type: ignore[call-overload]
    return measure_latency(
        lambda: classify(row["video"]), "pipeline, from an mp4 file to scores", clip_seconds=row["seconds"]
    )


def describe_corpus(num_speakers: int, clips_per_emotion: int) -> Corpus:
    """The description of the generated corpus for a results file."""
    return Corpus(
        name="generated clips",
        license="generated by this package, Apache-2.0",
        generated=True,
        description=(
            f"{STATEMENT} Generated by foal_hf.synthetic, version {GENERATOR_VERSION}: {num_speakers} speakers with "
            f"{clips_per_emotion} clips of each emotion. The voice shows arousal and the face valence, so each alone "
            "leaves two of the four emotions possible."
        ),
    )


def draw_recording(checkpoint: Path, output: Path, *, speaker: int, seed: int) -> Path:
    """Generate a recording of a test speaker with all emotions, and plot the predictions over its time."""
    recording = output / "recording.mp4"
    emotions = [EMOTIONS[index] for index in (1, 0, 3, 2)]
    truth = generate_recording(recording, emotions, speaker=speaker, seconds_each=4.0, seed=seed)
    classify: Any = pipeline(TASK, model=str(checkpoint))  # type: ignore[call-overload]
    windows = {"window_seconds": _WINDOW_SECONDS, "stride_seconds": _STRIDE_SECONDS}
    segments = classify(str(recording), detect_speech=False, **windows)
    return plot_timeline(
        segments,
        output / "timeline.png",
        labels=list(EMOTIONS),
        truth=truth,
        title="One held-out generated speaker with four emotions",
        note="Generated voice and drawn face: this shows nothing about real people.",
    )


def render_table(result: QuickstartResult) -> str:
    """UA and WA on the test speakers for audio, video and both, as a Markdown table."""
    rows = [
        (name, percent(test.unweighted_accuracy.value), percent(test.weighted_accuracy.value))
        for name, test in result.results.conditions.items()
    ]
    return table(("held-out speakers", "UA", "WA"), rows)
