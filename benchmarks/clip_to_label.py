"""From an mp4 file to its scores, by stage: `python benchmarks/clip_to_label.py`.

CLIP ViT-L/14 and WavLM-large with random weights, on a generated clip of 720x480 pixels and 30 frames a second. The
published way decodes every frame, prepares it with PIL, and pads to 6 s; the package takes the same frames, or the 5 a
second of its default. Then, with few layers, a list of clips goes through the pipeline with and without a worker that
decodes ahead.

`--clips FOLDER` says instead what fewer frames a second change on the mp4 files of a folder, with the checkpoint that
ships.
"""

import argparse
import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from harness import Timing, arguments, compare, limits, save, seconds_of, target
from published import PublishedFoalNet, prepare_picture, read_pictures, read_sound
from training_step import precision
from transformers import Wav2Vec2FeatureExtractor
from workload import (
    DEFAULT_FRAMES_PER_SECOND,
    MAX_SECONDS,
    PUBLISHED_FRAMES_PER_SECOND,
    SAMPLING_RATE,
    front_end_flops,
    image_flops,
    make_model,
    transformer_flops,
)

from foal_hf import AudioVideoEmotionPipeline, FoalNetProcessor, FoalNetVideoProcessor
from foal_hf.foal_net.media_foal_net import MediaFile
from foal_hf.registration import TINY_CHECKPOINT
from foal_hf.synthetic import EMOTIONS, generate_recording


PUBLISHED, SAME_RATE, DEFAULT = "published", "package, 30 frames a second", "package, its default of 5"
RATES = {
    PUBLISHED: PUBLISHED_FRAMES_PER_SECOND,
    SAME_RATE: PUBLISHED_FRAMES_PER_SECOND,
    DEFAULT: DEFAULT_FRAMES_PER_SECOND,
}
STAGES = ("open", "decode sound", "decode picture", "resize picture", "image encoder", "audio encoder", "the rest")
CHECKED_RATES = (30.0, 15.0, 10.0, 5.0, 2.0)


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        short={"layers": 1, "width": 128, "rounds": 3, "overlap_layers": 1, "overlap_width": 256, "overlap_clips": 4},
        rounds=1,
        layers={"type": int, "default": 24, "help": "of each encoder (%(default)s)"},
        width={"type": int, "default": 1024, "help": "of the encoders (%(default)s)"},
        seconds={"type": float, "default": 1.0, "help": "of the clip, 1 at least (%(default)s)"},
        overlap_layers={"type": int, "default": 2, "help": "where reading ahead is measured (%(default)s)"},
        overlap_width={"type": int, "default": 1024, "help": "(%(default)s)"},
        overlap_clips={"type": int, "default": 8, "help": "(%(default)s)"},
        clips={"type": Path, "help": "folder of mp4 files: compare frame rates instead"},
        num_clips={"type": int, "default": 48, "help": "of the folder, evenly spaced (%(default)s)"},
    )
    if options.clips:
        compare_frame_rates(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = make_clip(Path(folder), options.seconds)
        compare_ways(options, path)
        compare_overlap(options, path)


def make_clip(folder: Path, seconds: float) -> str:
    """A generated recording in the size and frame rate of IEMOCAP's films."""
    generate_recording(folder / "generated.mp4", [EMOTIONS[0]], seconds_each=seconds)
    path = folder / "clip.mp4"
    films = ["-vf", "scale=720:480,fps=30", "-c:a", "copy", "-t", str(seconds), str(path)]
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(folder / "generated.mp4"), *films], check=True)
    return str(path)


def make_processor(frames_per_second: float) -> FoalNetProcessor:
    """That of the published encoders; the waveform stays as it is, as published."""
    return FoalNetProcessor(
        Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True),
        FoalNetVideoProcessor(frames_per_second=frames_per_second),
    )


class Stages:
    """Seconds of each stage, over the runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)

    def watch(self, module: torch.nn.Module, name: str) -> None:
        """Take the time of a module whenever it runs."""
        forward = module.forward

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(name):
                return forward(*args, **kwargs)

        module.forward = timed

    def median(self, name: str) -> float | None:
        """Of the runs; the first, which warms up, does not count."""
        taken = self.seconds.get(name, [])
        return Timing.of(taken[1:] or taken).median if taken else None


def compare_ways(options: argparse.Namespace, path: str) -> None:
    machine = limits(options.device, options.dtype)
    model = make_model(options.layers, vision_layers=options.layers, width=options.width).to(options.device).eval()
    published = PublishedFoalNet(model).eval()
    stages = {name: Stages() for name in RATES}
    current = ""

    class Current:  # the package's two ways share their encoders
        def __call__(self, name: str) -> Any:
            return stages[current](name)

    for owner in (published, model.foal_net):
        for name in ("image encoder", "audio encoder"):
            module = owner.vision_encoder if name.startswith("image") else owner.audio_encoder
            Stages.watch(Current(), module, name)  # type: ignore[arg-type]

    logits = {}

    def way(name: str) -> Any:
        def run() -> None:
            nonlocal current
            current = name
            with torch.inference_mode(), precision(options.device, options.dtype), stages[name]("all"):
                if name == PUBLISHED:
                    logits[name] = published_label(published, path, stages[name], options.device)
                else:
                    batch = processors[name](videos=path, load_audio_from_video=True).to(options.device)
                    logits[name] = model(**batch).logits.float()

        return run

    processors = {name: make_processor(rate) for name, rate in RATES.items()}
    timings = compare({name: way(name) for name in RATES}, options.rounds)
    difference = float((logits[PUBLISHED].softmax(-1) - logits[SAME_RATE].softmax(-1)).abs().max())
    for name in (SAME_RATE, DEFAULT):
        for _ in range(6):
            read_by_stage(processors[name], path, stages[name])
    num_frames = {name: round(min(options.seconds, MAX_SECONDS) * rate) for name, rate in RATES.items()}
    rows = []
    for name, timing in timings.items():
        medians = [stages[name].median(stage) for stage in STAGES[:-1]]
        rest = timing.median - sum(median for median in medians if median is not None)
        shown = ["" if median is None else median for median in medians]
        heard = MAX_SECONDS if name == PUBLISHED else options.seconds
        flops = num_frames[name] * image_flops(model.config)
        flops += front_end_flops(model.config, heard) + transformer_flops(model.config, heard)
        limit = machine.seconds(flops) / timing.median
        ratio = timings[PUBLISHED].median / timing.median
        rows.append((name, num_frames[name], timing, ratio, *shown, max(rest, 0.0), flops / 1e12, limit))
    frame = stages[SAME_RATE].median("image encoder")
    save(
        "clip_to_label",
        "From an mp4 file to its scores",
        {
            "way": "",
            "frames": "",
            "a clip": "s",
            "ratio": "x",
            **dict.fromkeys(STAGES, "s"),
            "TFLOP": "",
            "share of the matrix product's limit": "%",
        },
        rows,
        [
            f"A clip of {options.seconds:g} s, 720x480 pixels; {options.layers} layers in each encoder. "
            "The published way opens a file where it decodes.",
            "Fusion and heads are in the rest, with what the stages of reading, timed alone, add up to too little or "
            "too much.",
            f"At equal frame rate the image encoder takes {(frame or 0) / timings[SAME_RATE].median:.0%} of the time, "
            "and both ways run the same matrix products there: how near the published way is to the machine's limit "
            "bounds what is left to gain.",
            f"Scores of both ways on the same frames differ by {difference:.0e} at most: PIL and torch round pixels "
            "alike up to one level of 255, and their resampling of sound is not the same.",
        ],
        options=options,
        targets=[
            target("Clip to label, equal frame rate", ratio_of(timings, SAME_RATE), at_least=1.3),
            target("Clip to label, default frame rate", ratio_of(timings, DEFAULT), at_least=5.0),
        ],
        limits=machine,
    )


def ratio_of(timings: dict[str, Timing], name: str) -> float:
    return timings[PUBLISHED].median / timings[name].median


def published_label(published: PublishedFoalNet, path: str, stage: Stages, device: str) -> torch.Tensor:
    """The whole published way for one file."""
    with stage("decode sound"):
        sound = read_sound(path)
    with stage("decode picture"):
        pictures = read_pictures(path)
    with stage("resize picture"):
        settings = FoalNetVideoProcessor()
        pixels = torch.stack([prepare_picture(picture, settings) for picture in pictures])
    features = published.vision_encoder(pixels.to(device)).image_embeds
    num_samples = round(MAX_SECONDS * SAMPLING_RATE)
    num_frames = round(MAX_SECONDS * PUBLISHED_FRAMES_PER_SECOND)
    return published(
        input_values=torch.nn.functional.pad(sound, (0, num_samples - len(sound)))[None].to(device),
        attention_mask=(torch.arange(num_samples) < len(sound)).long()[None].to(device),
        video_features=torch.nn.functional.pad(features.float(), (0, 0, 0, num_frames - len(features)))[None],
        padding_mask_videos=(torch.arange(num_frames) < len(features)).long()[None].to(device),
    ).logits.float()


def read_by_stage(processor: FoalNetProcessor, path: str, stage: Stages) -> None:
    """What the processor does in one go, in parts."""
    resize_seconds = 0.0

    def resize(frames: torch.Tensor) -> torch.Tensor:
        nonlocal resize_seconds
        started = time.perf_counter()
        resized = processor.video_processor.resize_and_crop(frames)
        resize_seconds += time.perf_counter() - started
        return resized

    with stage("open"), MediaFile(path):
        pass
    with MediaFile(path, modalities=("audio",)) as media, stage("decode sound"):
        media.read(max_seconds=MAX_SECONDS)
    rate = processor.frames_per_second
    with MediaFile(path, modalities=("video",), frames_per_second=rate) as media:
        started = time.perf_counter()
        clip = media.read(max_seconds=MAX_SECONDS, transform=resize)
        taken = time.perf_counter() - started
    started = time.perf_counter()
    processor.video_processor.pad([clip.frames])
    resize_seconds += time.perf_counter() - started
    stage.seconds.setdefault("decode picture", []).append(taken - resize_seconds)
    stage.seconds.setdefault("resize picture", []).append(resize_seconds)


def compare_overlap(options: argparse.Namespace, path: str) -> None:
    """For which share of the time the model waits for clips, once the first is there."""
    layers, width = options.overlap_layers, options.overlap_width
    model = make_model(layers, vision_layers=layers, width=width).to(options.device).eval()
    classify = AudioVideoEmotionPipeline(
        model=model, processor=make_processor(DEFAULT_FRAMES_PER_SECOND), device=options.device
    )
    rows = []
    waits = {}
    for num_workers in (0, 1):
        spans: list[tuple[float, float]] = []
        classify._forward = timed(classify, spans)
        clips = [path] * (options.overlap_clips + 1)
        total = seconds_of(lambda n=num_workers, c=clips: list(classify((each for each in c), num_workers=n)))
        busy = sum(end - start for start, end in spans[1:])
        span = spans[-1][1] - spans[0][1]
        waits[num_workers] = 1 - busy / span
        rows.append((num_workers, span / options.overlap_clips, waits[num_workers], total))
    save(
        "clip_to_label_overlap",
        "Reading ahead of the model",
        {"decoding workers": "", "a clip": "s", "the model waits": "%", "all, with the start": "s"},
        rows,
        [
            f"{options.overlap_clips} clips of {options.seconds:g} s at the default of 5 frames a second through the "
            f"pipeline one by one, {layers} layers of each encoder, {width} wide.",
            "On CPU the worker takes its time from the model's cores. With a GPU the model waits as soon as it is "
            "faster than the workers decode.",
        ],
        options=options,
        targets=[
            target(
                "The model waits, one worker, with a GPU",
                None if torch.device(options.device).type == "cpu" else waits[1],
                at_most=0.02,
                unit="%",
            )
        ],
    )


def timed(classify: Any, spans: list[tuple[float, float]]) -> Any:
    """The pipeline's pass through the model; each one's start and end go into `spans`."""

    def forward(inputs: Any, **settings: Any) -> Any:
        started = time.perf_counter()
        output = type(classify)._forward(classify, inputs, **settings)
        spans.append((started, time.perf_counter()))
        return output

    return forward


def compare_frame_rates(options: argparse.Namespace) -> None:
    """How scores and embeddings of real clips move when fewer frames a second are taken."""
    files = sorted(str(path) for path in options.clips.glob("*.mp4"))
    files = files[:: max(1, len(files) // options.num_clips)][: options.num_clips]
    classify = AudioVideoEmotionPipeline(
        model=load_tiny().to(options.device),
        processor=FoalNetProcessor.from_pretrained(TINY_CHECKPOINT),
        device=options.device,
    )
    rows = []
    answers: dict[float, tuple[list[str], torch.Tensor, torch.Tensor]] = {}
    for rate in CHECKED_RATES:
        found: list[Any] = []

        def run(rate: float = rate, found: list[Any] = found) -> None:
            found += classify((file for file in files), frames_per_second=rate, return_embeddings=True)

        seconds = seconds_of(run)
        answers[rate] = summed_up(found)
        labels, scores, embeds = answers[rate]
        wanted_labels, wanted_scores, wanted_embeds = answers[CHECKED_RATES[0]]
        same = sum(got == want for got, want in zip(labels, wanted_labels, strict=True)) / len(files)
        cosine = float((embeds * wanted_embeds).sum(dim=1).mean())
        difference = (scores - wanted_scores).abs()
        rows.append(
            (f"{rate:g}", seconds / len(files), same, float(difference.mean()), float(difference.max()), cosine)
        )
    save(
        "clip_to_label_frame_rates",
        "What fewer frames change, on real clips",
        {
            "frames a second": "",
            "a clip": "s",
            "same label as at 30": "%",
            "mean difference of a score": "",
            "largest": "",
            "mean cosine of the picture's embeddings": "",
        },
        rows,
        [
            f"{len(files)} clips of real people, sound and picture, by the checkpoint that ships. It was trained on "
            "generated clips, so its labels say nothing about the people; here they only have to stay the same.",
        ],
        options=options,
        targets=[],
    )


def load_tiny() -> Any:
    from foal_hf import FoalNetForEmotionClassification

    return FoalNetForEmotionClassification.from_pretrained(TINY_CHECKPOINT).eval()


def summed_up(found: Sequence[Any]) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Labels, scores in the order of their names, and embeddings of the pictures."""
    labels = [answer["scores"][0]["label"] for answer in found]
    by_name = [sorted(answer["scores"], key=lambda each: each["label"]) for answer in found]
    scores = torch.tensor([[each["score"] for each in scores] for scores in by_name])
    return labels, scores, torch.stack([torch.as_tensor(answer["video_embeds"]) for answer in found])


if __name__ == "__main__":
    main()
