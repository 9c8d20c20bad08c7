"""Makes foal-net-small, and measures it: `python benchmarks/small_foal_net.py --signals S --clips C --runs RUNS`.

S has voices.parquet and faces.parquet, C the test clips with their metadata.csv: a voice of S and a photo of S each.
The speakers of the clips are put into six groups. For each group and seed everything is trained anew, the encoders too,
on the voices of other speakers and the photos of other persons; then the clips of the group are tested. Nothing is
chosen: the last step counts. `--checkpoint FOLDER` then trains on all voices and photos, and saves the weights that are
shipped, with the temperature that fits the tests.

Interrupted, it goes on: what a group and seed came to lies in RUNS, with the model of the group. With the same
processor it repeats to the bit.
"""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from harness import Timing, arguments, compare, num_cores, peak_memory, save, target
from small_signals import Faces, Voices, groups_of, read_faces, read_voices, without
from small_training import LABELS, Settings, encode, train_face, train_pairs, train_voice
from tqdm import tqdm

from foal_hf.atomic_files import write_json
from foal_hf.experiments import VARIANTS
from foal_hf.experiments.small import make_small_model, make_small_processor
from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification
from foal_hf.metrics import emotion_metrics
from foal_hf.results import (
    Corpus,
    Encoder,
    Evaluation,
    Protocol,
    Results,
    Split,
    Training,
    installed_versions,
)
from foal_hf.results.latency import describe_hardware
from foal_hf.training.calibration import MIN_CLIPS, fit_temperature


NAMES = {"audio alone": "sound alone", "video alone": "picture alone"}
NUM_GROUPS = 6
SHIPPED = "Foal-Net"
EVERYONE = "everyone"
SHORT = Settings(
    voice_epochs=1,
    voice_batch=4,
    voice_frames=32,
    face_epochs=1,
    face_batch=4,
    face_views=2,
    faces_of_a_class=2,
    pair_steps=2,
    pair_batch=8,
)
OF_A_CARD = {"both": "both", "audio alone": "picture removed", "video alone": "sound removed"}
CONDITIONS = {
    "both": ("audio", "video"),
    "picture removed": ("audio",),
    "sound removed": ("video",),
    "both degraded": ("audio", "video"),
}


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        signals={"required": True, "type": Path, "help": "folder of voices.parquet and faces.parquet"},
        clips={"required": True, "type": Path, "help": "folder of the clips and their metadata.csv"},
        runs={"required": True, "type": Path, "help": "folder for what is computed on the way"},
        seeds={"nargs": "+", "type": int, "default": [0, 1, 2], "help": "(0 1 2)"},
        only_folds={
            "nargs": "+",
            "type": int,
            "default": list(range(6)),
            "help": "numbers of some groups, for a trial",
        },
        checkpoint={"type": Path, "help": "also train on everything, and save it here"},
        workers={"type": int, "default": num_cores(), "help": "trainings at once, of one thread each (%(default)s)"},
    )
    torch.set_num_threads(1)
    metadata = pd.read_csv(options.clips / "metadata.csv", dtype=str)
    settings = SHORT if options.short else Settings()
    read_voices(options.signals / "voices.parquet", options.runs / "voices.pt", options.workers)
    _read_clips(options.clips, metadata, options.runs / "clips.pt")
    jobs = [(fold, seed) for seed in options.seeds for fold in options.only_folds]
    with ProcessPoolExecutor(options.workers) as pool:
        running = [pool.submit(run_fold, options.signals, options.runs, metadata, *job, settings) for job in jobs]
        if options.checkpoint is not None:
            running.append(pool.submit(train_on_everyone, options.signals, options.runs, settings))
        for done in tqdm(as_completed(running), "groups", len(running), disable=None):
            done.result()
    tests = {job: json.loads(_file(options.runs, *job).read_text(encoding="utf-8")) for job in jobs}
    report(tests, metadata, options)
    if options.checkpoint is not None:
        make_checkpoint(tests, metadata, options, settings)


def run_fold(signals: Path, runs: Path, metadata: pd.DataFrame, fold: int, seed: int, settings: Settings) -> None:
    """Train without the people of a group of test clips, and test each row of the table on them."""
    if _file(runs, fold, seed).is_file():
        return
    torch.set_num_threads(1)
    voices, faces = (
        read_voices(signals / "voices.parquet", runs / "voices.pt", 1),
        read_faces(signals / "faces.parquet"),
    )
    test = groups_of(metadata, NUM_GROUPS)[fold]
    seen_voices, seen_faces = seen_in(metadata.iloc[test], voices, faces)
    started = time.perf_counter()
    model, sequences = train_encoders(voices, seen_voices, faces, seen_faces, seed, settings)
    clips = torch.load(runs / "clips.pt", weights_only=False)
    inputs = {
        condition: _encoded(model, [clips["degraded" if "degraded" in condition else "plain"][index] for index in test])
        for condition in CONDITIONS
    }
    logits = {}
    for name in VARIANTS:
        trained = train_variant(model, sequences, name, seed, settings)
        logits[name] = {
            condition: _logits(trained, inputs[condition], modalities).tolist()
            for condition, modalities in CONDITIONS.items()
            if set(modalities) <= set(VARIANTS[name].modalities)
        }
        if name == SHIPPED:
            trained.save_pretrained(_file(runs, fold, seed).with_suffix(""))
    content = {"test": [int(index) for index in test], "seconds": time.perf_counter() - started, "logits": logits}
    write_json(_file(runs, fold, seed), content)


def seen_in(test: pd.DataFrame, voices: Voices, faces: Faces) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the voices and the faces of people who are in none of the test clips."""
    return without(voices.speakers, set(test["speaker"])), without(faces.persons, set(test["person"]))


def train_encoders(
    voices: Voices, seen_voices: np.ndarray, faces: Faces, seen_faces: np.ndarray, seed: int, settings: Settings
) -> tuple[FoalNetForEmotionClassification, Any]:
    """The model with trained encoders, and what these give for the training examples."""
    torch.manual_seed(seed)
    model = make_small_model()
    train_voice(model, voices, seen_voices, seed, settings)
    train_face(model, faces, seen_faces, seed, settings)
    return model, encode(model, voices, seen_voices, faces, seen_faces, seed, settings)


def train_variant(
    model: FoalNetForEmotionClassification, sequences: Any, name: str, seed: int, settings: Settings
) -> FoalNetForEmotionClassification:
    """One row of the table."""
    variant, losses = VARIANTS[name], {}
    if not variant.alignment:
        losses["alignment_loss_weight"] = 0.0
    if not variant.matching:
        losses["matching_loss_weight"] = 0.0
    return train_pairs(model, sequences, seed, settings, modalities=variant.modalities, **losses)


def train_on_everyone(signals: Path, runs: Path, settings: Settings) -> None:
    """Train what is shipped on all voices and faces."""
    if (runs / EVERYONE).is_dir():
        return
    torch.set_num_threads(1)
    voices, faces = _read_signals(signals, runs)
    started = time.perf_counter()
    everyone = np.arange(len(voices.clip_ids)), np.arange(len(faces.face_ids))
    model, sequences = train_encoders(voices, everyone[0], faces, everyone[1], 0, settings)
    model = train_variant(model, sequences, SHIPPED, 0, settings)
    model.save_pretrained(unfinished := runs / f"{EVERYONE}.unfinished")
    write_json(unfinished / "training.json", {"seconds": time.perf_counter() - started})
    unfinished.rename(runs / EVERYONE)


def make_checkpoint(
    tests: Mapping[tuple[int, int], Any], metadata: pd.DataFrame, options: Any, settings: Settings
) -> None:
    """Save what was trained on everyone, calibrated on the tests of the groups, with processor and results file."""
    trained = options.runs / EVERYONE
    model = FoalNetForEmotionClassification.from_pretrained(trained)
    voices, _ = _read_signals(options.signals, options.runs)
    seconds = json.loads((trained / "training.json").read_text(encoding="utf-8"))["seconds"]
    logits, truth, rows = _gathered(tests, metadata, SHIPPED, "both")
    model.config.calibration_temperature = temperature = fit_temperature(logits, truth, min_clips=MIN_CLIPS)
    model.config.id2label = dict(enumerate(LABELS))
    model.save_pretrained(options.checkpoint)
    make_small_processor().save_pretrained(options.checkpoint)
    results = Results(
        corpus=Corpus("RAVDESS voices and press photographs", languages=["en"], acted=True),
        labels=LABELS,
        protocol=Protocol(
            "speaker-and-person-disjoint",
            f"{len(set(metadata['speaker']))} speakers in six groups; for each group everything was trained on other "
            "speakers and other persons",
            refitted=True,
        ),
        selection="last",
        conditions={condition: evaluation(tests, metadata, SHIPPED, name) for condition, name in OF_A_CARD.items()},
        splits={"train": Split(len(voices.clip_ids), len(set(voices.speakers)), voices.clip_ids)},
        seeds=sorted({seed for _, seed in tests}),
        calibration=f"Calibrated with a temperature of {temperature:.3g}, fitted on the {len(rows)} tests of models "
        "that never saw the tested people.",
        training=Training(
            audio_encoder=Encoder(pretrained=False),
            vision_encoder=Encoder(pretrained=False),
            recipe="small",
            settings=dataclasses.asdict(settings),
            optimizer="AdamW",
            schedule="one cycle",
            modality_dropout=model.config.modality_dropout,
            loss_weights={
                "classification": 1.0,
                "alignment": model.config.alignment_loss_weight,
                "matching": model.config.matching_loss_weight,
            },
            frames_per_second=5.0,
            max_seconds=6.0,
            seconds=seconds,
            hardware=describe_hardware("cpu"),
        ),
        versions=installed_versions(),
    )
    results.save(options.checkpoint / "results.json")


def report(tests: Mapping[tuple[int, int], Any], metadata: pd.DataFrame, options: Any) -> None:
    """Write the tables."""
    columns = {"trained": "", "tested with": "", "UA": "%", "between seeds": "%", "95 % interval": "", "ECE": "%"}
    main = {name: _row(tests, metadata, name, "both") for name in VARIANTS if len(VARIANTS[name].modalities) > 1}
    alone = {
        name: _row(tests, metadata, name, condition)
        for name, condition in (("audio alone", "picture removed"), ("video alone", "sound removed"))
    }
    others = [_row(tests, metadata, SHIPPED, condition) for condition in list(CONDITIONS)[1:]]
    shipped = evaluation(tests, metadata, SHIPPED, "both")
    genders = {name: group.unweighted_accuracy.value for name, group in shipped.groups.get("gender", {}).items()}
    timing = _latency(options)
    save(
        "small_foal_net",
        f"foal-net-small on {len(_gathered(tests, metadata, SHIPPED, 'both')[1]) // len(options.seeds)} real clips, "
        f"six groups by speaker and person, {len(options.seeds)} seeds",
        columns,
        [*alone.values(), *main.values(), *others],
        [
            "UA: mean of the seeds, each of all clips, tested when their speaker and their photo's person were held "
            "out from everything; then the standard deviation between seeds, and the 95 % bootstrap interval, drawn by "
            "speaker. ECE: of scores whose temperature was fitted on the tests of the other groups.",
            "The encoders are trained before the pairs are, and stay as they are then. AVEL reaches fusion through the "
            "encoders only, so that its rows can differ from those without it by the random numbers alone.",
            "Recall of the shipped kind, both: "
            + ", ".join(f"{label} {100 * recall:.0f} %" for label, recall in shipped.per_class_recall.items() if recall)
            + "; UA by gender of the voice: "
            + ", ".join(f"{name} {100 * value:.0f} %" for name, value in genders.items())
            + ".",
            f"After decoding, a clip of 4 s takes {1000 * timing.median:.0f} ms ({1000 * timing.low:.0f} to "
            f"{1000 * timing.high:.0f}) on {num_cores()} cores, spectrogram and frames included; the process holds "
            f"{peak_memory() / 2**20:.0f} MB with everything that the training has left in it.",
        ],
        options=options,
        targets=[
            target("UA from both", main[SHIPPED][2], at_least=0.80, unit="%"),
            target("UA from sound", alone["audio alone"][2], at_least=0.67, unit="%"),
            target("UA from picture", alone["video alone"][2], at_least=0.68, unit="%"),
            target("Calibration error", main[SHIPPED][5], at_most=0.08, unit="%"),
            target("Seconds a clip", timing.median, at_most=0.06, unit="s"),
        ],
    )


def evaluation(tests: Mapping[tuple[int, int], Any], metadata: pd.DataFrame, name: str, condition: str) -> Evaluation:
    """All seeds of a row under one condition, with intervals by speaker and the recall of each gender."""
    logits, truth, rows = _gathered(tests, metadata, name, condition)
    scores = _calibrated(tests, metadata, name, condition)
    result = Evaluation.from_predictions(
        truth,
        logits.argmax(1),
        LABELS,
        clusters=list(metadata["speaker"].iloc[rows]),
        groups={"gender": list(metadata["gender"].iloc[rows])},
        probabilities=scores,
    )
    return _per_clip(result, len({seed for _, seed in tests}))


def _per_clip(result: Evaluation, seeds: int) -> Evaluation:
    """The same, where each clip was tested once with each seed."""
    groups = {by: {name: _per_clip(each, seeds) for name, each in of.items()} for by, of in result.groups.items()}
    return dataclasses.replace(result, num_clips=result.num_clips // seeds, num_runs=seeds, groups=groups)


def _row(tests: Mapping[tuple[int, int], Any], metadata: pd.DataFrame, name: str, condition: str) -> list[Any]:
    result = evaluation(tests, metadata, name, condition)
    seeds = sorted({seed for _, seed in tests})
    values = []
    for seed in seeds:
        logits, truth, _ = _gathered({job: tests[job] for job in tests if job[1] == seed}, metadata, name, condition)
        values.append(emotion_metrics(truth, logits.argmax(1), LABELS)["unweighted_accuracy"])
    low, high = result.unweighted_accuracy.interval or (np.nan, np.nan)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    interval = f"{100 * low:.1f} to {100 * high:.1f} %"
    title = NAMES.get(name, name)
    return [title, condition, float(np.mean(values)), deviation, interval, result.expected_calibration_error]


def _gathered(
    tests: Mapping[tuple[int, int], Any], metadata: pd.DataFrame, name: str, condition: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, classes and rows of all tested clips of all seeds."""
    rows = np.concatenate([test["test"] for test in tests.values()])
    logits = np.concatenate([test["logits"][name][condition] for test in tests.values()])
    truth = np.array([LABELS.index(metadata["emotion"].iloc[row]) for row in rows])
    return logits, truth, rows


def _calibrated(tests: Mapping[tuple[int, int], Any], metadata: pd.DataFrame, name: str, condition: str) -> np.ndarray:
    """Scores of all tests, those of a group with the temperature that fits the clips of other people.

    The temperature is that of clips with both, as in the shipped config, where the row has such clips.
    """
    scores = []
    fitted_on = condition if len(VARIANTS[name].modalities) < 2 else "both"
    for (fold, _), test in tests.items():
        own = set(metadata["person"].iloc[test["test"]])
        others = {job: each for job, each in tests.items() if job[0] != fold} or tests
        logits, truth, rows = _gathered(others, metadata, name, fitted_on)
        kept = ~metadata["person"].iloc[rows].isin(own).to_numpy() if len(others) < len(tests) else slice(None)
        temperature = fit_temperature(logits[kept], truth[kept], min_clips=MIN_CLIPS)
        own_logits = torch.tensor(test["logits"][name][condition])
        scores.append((own_logits / temperature).softmax(-1).numpy())
    return np.concatenate(scores)


def _read_clips(folder: Path, metadata: pd.DataFrame, cache: Path) -> None:
    """Read all clips, with the whole frame; and the same with noise, in sight as in sound."""
    if cache.is_file():
        return
    processor = _processor()
    plain = [processor.read(str(folder / name)) for name in metadata["file_name"]]
    generator = torch.Generator().manual_seed(0)
    torch.save({"plain": plain, "degraded": [_degraded(clip, generator) for clip in plain]}, cache)


def _degraded(clip: Any, generator: torch.Generator) -> Any:
    """White noise 10 dB below the voice; frames of a third of their pixels across, dimmed."""
    noise = torch.randn(clip.waveform.shape, generator=generator) * clip.waveform.std() * 10 ** (-10 / 20)
    frames = clip.frames.float()
    small = F.interpolate(frames, scale_factor=1 / 3, mode="bilinear", antialias=True)
    blurred = F.interpolate(small, size=frames.shape[-2:], mode="bilinear") * 0.6
    return dataclasses.replace(clip, waveform=clip.waveform + noise, frames=blurred.round().to(clip.frames.dtype))


@torch.no_grad()
def _encoded(model: FoalNetForEmotionClassification, clips: Sequence[Any]) -> dict[str, torch.Tensor]:
    inputs = _processor().batch(clips)
    audio, audio_mask = model.foal_net.encode_audio(
        input_features=inputs["input_features"], attention_mask=inputs["attention_mask"]
    )
    video, video_mask = model.foal_net.encode_video(inputs["pixel_values_videos"], inputs["padding_mask_videos"])
    return {
        "audio_features": audio.last_hidden_state,
        "attention_mask": audio_mask,
        "video_features": video.last_hidden_state,
        "padding_mask_videos": video_mask,
    }


@torch.no_grad()
def _logits(
    model: FoalNetForEmotionClassification, inputs: Mapping[str, torch.Tensor], modalities: Sequence[str]
) -> torch.Tensor:
    audio = ("audio_features", "attention_mask") if "audio" in modalities else ()
    video = ("video_features", "padding_mask_videos") if "video" in modalities else ()
    return model(**{name: inputs[name] for name in (*audio, *video)}).logits


def _latency(options: Any) -> Timing:
    """From a decoded clip of 4 s to its scores."""
    torch.set_num_threads(options.threads)
    model, processor = make_small_model().eval(), _processor()
    clip = torch.load(options.runs / "clips.pt", weights_only=False)["plain"][0]
    samples, frames = 4 * 16_000, 20
    clip = dataclasses.replace(
        clip,
        waveform=clip.waveform.repeat(2)[:samples],
        frames=clip.frames.repeat(2, 1, 1, 1)[:frames],
    )

    @torch.no_grad()
    def predict() -> None:
        model(**processor.batch([clip])).logits.softmax(-1)

    timing = compare({"predict": predict}, 10 * options.rounds)["predict"]
    torch.set_num_threads(1)
    return timing


def _read_signals(signals: Path, runs: Path) -> tuple[Voices, Faces]:
    return read_voices(signals / "voices.parquet", runs / "voices.pt", 1), read_faces(signals / "faces.parquet")


def _processor() -> Any:
    processor = make_small_processor()
    processor.video_processor.crop = "frame"
    return processor


def _file(runs: Path, fold: int, seed: int) -> Path:
    return runs / f"group-{fold}-seed-{seed}.json"


if __name__ == "__main__":
    main()
