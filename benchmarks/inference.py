"""Inference with features in, of the package and of the published recipe: `python benchmarks/inference.py`.

Clips per second over batches of IEMOCAP's lengths through WavLM-large, fusion and heads, with stored features of the
pictures; and which share of the audio encoder's time the fusion and the heads take.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from harness import arguments, compare, limits, save, target
from published import PublishedFoalNet
from training_step import DEFAULT, PUBLISHED, SAME_RATE, WAYS, compare_losses, precision
from workload import (
    MAX_SECONDS,
    Epoch,
    front_end_flops,
    fusion_flops,
    make_batch,
    make_model,
    transformer_flops,
)

from foal_hf.foal_net.audio_encoders_foal_net import run_audio_encoder


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        short={"layers": 2, "width": 128, "batch_size": 2, "num_batches": 2, "rounds": 3},
        rounds=3,
        layers={"type": int, "default": 24, "help": "of the audio encoder (%(default)s)"},
        width={"type": int, "default": 1024, "help": "of the encoders (%(default)s)"},
        batch_size={"type": int, "default": 4, "help": "clips (%(default)s)"},
        num_batches={"type": int, "default": 3, "help": "of an epoch, evenly spaced by length (%(default)s)"},
    )
    machine = limits(options.device, options.dtype)
    epoch = Epoch.of(options.num_batches, options.batch_size)
    model = make_model(options.layers, width=options.width).to(options.device).eval()
    published = PublishedFoalNet(model)
    difference = compare_losses(model, published, epoch.batches[0][:2], options.device)
    model.eval(), published.eval()

    def inputs(name: str, seconds: Sequence[float]) -> dict[str, torch.Tensor]:
        padded_to = MAX_SECONDS if name == PUBLISHED else None
        batch = make_batch(seconds, WAYS[name], model.config.video_width, padded_to=padded_to, device=options.device)
        return {key: value for key, value in batch.items() if key != "labels"}

    def runs(function: Callable[..., Any], batches: list[dict[str, torch.Tensor]]) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode(), precision(options.device, options.dtype):
                for batch in batches:
                    function(**batch)

        return run

    batches = {name: [inputs(name, seconds) for seconds in epoch.batches] for name in WAYS}
    # A published batch costs the same whatever is in it.
    batches[PUBLISHED] = batches[PUBLISHED][:1]
    ways = {name: runs(published if name == PUBLISHED else model, each) for name, each in batches.items()}
    timings = compare(ways, options.rounds)
    timings = {name: timing.scaled(1 / options.batch_size / len(batches[name])) for name, timing in timings.items()}
    with torch.inference_mode():
        encoded = [encode_audio(model, batch) for batch in batches[SAME_RATE]]
    parts = compare(
        {
            "audio encoder": runs(lambda **batch: encode_audio(model, batch), batches[SAME_RATE]),
            **{
                name: runs(lambda **batch: fuse(model, **batch), fusion_inputs(encoded, batches[name]))
                for name in (SAME_RATE, DEFAULT)
            },
        },
        options.rounds,
    )
    num_clips = options.batch_size * len(epoch.batches)
    parts = {name: timing.scaled(1 / num_clips) for name, timing in parts.items()}

    columns = {
        "what": "",
        "a clip": "s",
        "clips a second": "",
        "ratio": "x",
        "GFLOP a clip": "",
        "share of the matrix product's limit": "%",
    }
    rows: list[tuple[Any, ...]] = []
    config = model.config

    def encoder_flops(seconds: float) -> float:
        return front_end_flops(config, seconds) + transformer_flops(config, seconds)

    def mean_flops(name: str, *counts: Callable[[float], float]) -> float:
        lengths = [MAX_SECONDS] if name == PUBLISHED else [max(batch) for batch in epoch.batches]
        return sum(count(seconds) for seconds in lengths for count in counts) / len(lengths)

    def row(label: str, timing: Any, flops: float, ratio: float | None) -> tuple[Any, ...]:
        shown = "" if ratio is None else ratio
        return label, timing, 1 / timing.median, shown, flops / 1e9, machine.seconds(flops) / timing.median

    for name, timing in timings.items():
        fusion = lambda seconds, name=name: fusion_flops(config, seconds, WAYS[name])  # noqa: E731
        ratio = timings[PUBLISHED].median / timing.median
        rows.append(row(name, timing, mean_flops(name, encoder_flops, fusion), ratio))
    rows.append(row("of this the audio encoder", parts["audio encoder"], mean_flops(SAME_RATE, encoder_flops), None))
    for name in (SAME_RATE, DEFAULT):
        fusion = lambda seconds, name=name: fusion_flops(config, seconds, WAYS[name])  # noqa: E731
        label = f"of this fusion and heads, {WAYS[name]:.0f} frames a second"
        rows.append(row(label, parts[name], mean_flops(name, fusion), None))
    on_cpu = torch.device(options.device).type == "cpu"
    save(
        "inference",
        "WavLM, fusion and heads",
        columns,
        rows,
        [
            f"{options.layers} layers of WavLM, {options.width} wide, batches of {options.batch_size}. The package's "
            f"batches are padded to {epoch.chosen_seconds:.2f} s on average, all of an epoch to "
            f"{epoch.padded_seconds:.2f} s; published to {MAX_SECONDS:.0f} s always.",
            f"On the same clips and weights, the logits of both ways differ by {difference:.0e} at most.",
            "The share of fusion and heads is that of the audio encoder's time alone. Where pictures come in, the "
            "image encoder takes 162 GFLOP a frame, and the share is far below.",
        ],
        options=options,
        targets=[
            target(
                "Inference, clips a second, same frames",
                timings[PUBLISHED].median / timings[SAME_RATE].median,
                at_least=1.5 if on_cpu else 3.0,
            ),
            target(
                "Fusion and heads, share of the audio encoder's time, 30 frames a second",
                parts[SAME_RATE].median / parts["audio encoder"].median,
                at_most=0.03,
                unit="%",
            ),
            target(
                "Fusion and heads, share of the audio encoder's time, 5 frames a second",
                parts[DEFAULT].median / parts["audio encoder"].median,
                at_most=0.03,
                unit="%",
            ),
        ],
        limits=machine,
    )


def encode_audio(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    output, mask = run_audio_encoder(
        model.foal_net.audio_encoder, model.config, batch["input_values"], batch["attention_mask"]
    )
    return output.last_hidden_state, mask


def fusion_inputs(
    encoded: Sequence[tuple[torch.Tensor, torch.Tensor]], batches: Sequence[dict[str, torch.Tensor]]
) -> list[dict[str, torch.Tensor]]:
    """What the fusion gets of batches whose sound is encoded."""
    return [
        {
            "audio": audio,
            "audio_mask": audio_mask,
            "video": batch["video_features"],
            "video_mask": batch["padding_mask_videos"].bool(),
        }
        for (audio, audio_mask), batch in zip(encoded, batches, strict=True)
    ]


def fuse(
    model: Any, audio: torch.Tensor, audio_mask: torch.Tensor, video: torch.Tensor, video_mask: torch.Tensor
) -> torch.Tensor:
    """All that follows the encoders."""
    foal_net = model.foal_net
    foal_net.align(audio, audio_mask, foal_net.audio_projection)
    foal_net.align(video, video_mask, foal_net.video_projection)
    return model.classifier(torch.cat(foal_net.fusion(audio, audio_mask, video, video_mask), dim=-1))


if __name__ == "__main__":
    main()
