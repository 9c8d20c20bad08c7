"""The convolutions on the waveform, channels last, against transformers' own: `python benchmarks/front_end.py`.

WavLM-large's, on the same weights: frozen as in training and in inference, trained along, and under autocast to
bfloat16. Transformers' layers transpose before and after each norm, and its convolutions copy both times.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from harness import arguments, compare, limits, save, target
from published import with_weights_of
from training_step import precision
from transformers import WavLMModel
from workload import SAMPLING_RATE, front_end_bytes, front_end_flops, make_config

from foal_hf.foal_net.audio_encoders_foal_net import make_audio_encoder


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        short={"width": 128, "shapes": ["1x1"], "rounds": 3},
        rounds=5,
        width={"type": int, "default": 1024, "help": "of the encoder, twice that of the convolutions (%(default)s)"},
        shapes={"nargs": "+", "default": ["1x3.6", "4x6"], "help": "clips x seconds (%(default)s)"},
    )
    config = make_config(1, width=options.width)
    torch.manual_seed(0)
    encoder = make_audio_encoder(config).to(options.device)
    ways = {
        "transformers": with_weights_of(encoder, WavLMModel).feature_extractor,
        "package": encoder.feature_extractor,
    }
    rows, ratios = [], {}
    machines = {dtype: limits(options.device, dtype) for dtype in ("float32", "bfloat16")}
    for shape in options.shapes:
        clips, seconds = (float(number) for number in shape.split("x"))
        generator = torch.Generator().manual_seed(0)
        sound = torch.randn(int(clips), round(seconds * SAMPLING_RATE), generator=generator).to(options.device)
        for kind, dtype in (("frozen", "float32"), ("frozen", "bfloat16"), ("trained", "float32")):
            functions = {name: run(way, sound, kind, dtype, options.device) for name, way in ways.items()}
            want, got = (function().float() for function in functions.values())
            difference = float((want - got).abs().max() / want.abs().max())
            timings = compare(functions, options.rounds)
            ratio = ratios[shape, kind, dtype] = timings["transformers"].median / timings["package"].median
            times = 3 if kind == "trained" else 1
            flops = times * clips * front_end_flops(config, seconds)
            num_bytes = times * clips * front_end_bytes(config, seconds, 2 if dtype == "bfloat16" else 4)
            machine = machines[dtype]
            least = machine.seconds(flops, num_bytes)
            rows.append(
                (
                    f"{int(clips)} x {seconds:g} s",
                    f"{kind}, {dtype}",
                    timings["transformers"],
                    timings["package"],
                    ratio,
                    flops / 1e9,
                    num_bytes / 1e9,
                    least / timings["package"].median,
                    f"{difference:.0e}",
                )
            )
    save(
        "front_end",
        "The convolutions on the waveform",
        {
            "clips": "",
            "what": "",
            "transformers": "s",
            "package": "s",
            "ratio": "x",
            "GFLOP": "",
            "GB at least": "",
            "share of the machine's limit": "%",
            "largest difference": "",
        },
        rows,
        [
            "Frozen convolutions record nothing for a gradient, so that `no_grad` around them would change nothing. "
            "Trained ones run forward and backward, which counts as three times the work.",
            "The difference is that of the output, relative to its largest number. The limit is that of the matrix "
            "product in the same precision, or of the bytes if that is more.",
            *(
                f"Slower than transformers: {shape}, {kind}, {dtype} ({ratio:.2f}x)."
                for (shape, kind, dtype), ratio in ratios.items()
                if ratio < 1
            ),
        ],
        options=options,
        targets=[
            target(f"Front end, {shape} s, frozen, float32", ratios[shape, "frozen", "float32"], at_least=1.0)
            for shape in options.shapes
        ],
        limits=machines["float32"],
    )


def run(front_end: Any, sound: torch.Tensor, kind: str, dtype: str, device: str) -> Callable[[], torch.Tensor]:
    """Frozen, it is called as in a training step; `trained` also goes backward."""

    def function() -> torch.Tensor:
        # Both front ends hold the same tensors.
        for parameter in front_end.parameters():
            parameter.requires_grad_(kind == "trained")
        front_end._requires_grad = kind == "trained"
        with precision(device, dtype):
            features = front_end(sound)
        if kind == "trained":
            torch.autograd.grad(features.sum(), list(front_end.parameters()))
        elif features.requires_grad:
            raise AssertionError("A frozen front end should record nothing for a gradient.")
        return features.detach()

    return function


if __name__ == "__main__":
    main()
