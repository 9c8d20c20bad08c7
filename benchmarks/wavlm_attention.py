"""WavLM's attention through SDPA against transformers' own: `python benchmarks/wavlm_attention.py`.

One attention layer of WavLM-large behind the first, which looks the positions up for all: forward alone and with
gradients, for clips of several lengths, with padding (every other clip is half as long) and without.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from harness import arguments, compare, limits, save, target
from published import with_weights_of
from training_step import precision
from transformers import WavLMModel
from workload import attention_bytes, attention_flops, audio_frames, make_config

from foal_hf.foal_net.audio_encoders_foal_net import make_audio_encoder


_LOOKED_UP = "rel_attn_embed.weight"  # by the first layer alone


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        short={"width": 256, "batch_size": 2, "seconds": [0.5, 2.0], "rounds": 3},
        rounds=3,
        width={"type": int, "default": 1024, "help": "of the encoder (%(default)s)"},
        batch_size={"type": int, "default": 4, "help": "clips (%(default)s)"},
        seconds={"type": float, "nargs": "+", "default": [1.0, 3.0, 6.0, 15.0, 30.0], "help": "lengths (%(default)s)"},
    )
    machine = limits(options.device, options.dtype)
    torch.manual_seed(0)
    config = make_config(1, width=options.width)
    encoder = make_audio_encoder(config).to(options.device).eval()
    encoders = {"eager": with_weights_of(encoder, WavLMModel), "sdpa": encoder}
    rows, worst, slower = [], 0.0, []
    six_seconds: dict[bool, float | None] = {False: None, True: None}
    for seconds in options.seconds:
        for with_gradient in (False, True):
            for is_padded in (False, True):
                layer = AttentionLayer(encoders, options, audio_frames(config, seconds), is_padded)
                difference = layer.compare(with_gradient)
                worst = max(worst, difference)
                timings = compare({name: layer.runs(name, with_gradient) for name in ("eager", "sdpa")}, options.rounds)
                ratio = timings["eager"].median / timings["sdpa"].median
                kind = "forward and backward" if with_gradient else "forward"
                if ratio < 1:
                    slower.append(f"{seconds:g} s, {kind}{', padded' if is_padded else ''} ({ratio:.2f}x)")
                if seconds == 6.0 and not is_padded:
                    six_seconds[with_gradient] = ratio
                times = 3 if with_gradient else 1
                flops = times * options.batch_size * attention_flops(config, layer.frames)
                num_bytes = times * options.batch_size * attention_bytes(config, layer.frames)
                least = machine.seconds(flops, num_bytes)
                share = least / timings["sdpa"].median
                rows.append(
                    (
                        f"{seconds:g} s",
                        kind,
                        "yes" if is_padded else "no",
                        timings["eager"],
                        timings["sdpa"],
                        ratio,
                        share,
                        f"{difference:.0e}",
                    )
                )
    save(
        "wavlm_attention",
        "One layer of attention",
        {
            "clips of": "",
            "what": "",
            "padded": "",
            "eager (transformers)": "s",
            "sdpa (the package)": "s",
            "ratio": "x",
            "share of the machine's limit": "%",
            "largest difference": "",
        },
        rows,
        [
            f"One layer, {options.width} wide, {options.batch_size} clips. The difference is that of the output and, "
            "with gradients, of all gradients, each relative to the largest number in it.",
            "The limit is what the matrix products take at the measured rate, or the bytes at the measured bandwidth "
            "if that is more; a backward pass counts as two forward ones. Up to 6 s the four projections are most of "
            "the work, which both ways share.",
            "sdpa was slower than eager nowhere." if not slower else f"sdpa was slower at {'; '.join(slower)}.",
        ],
        options=options,
        targets=[
            target("WavLM's attention, largest relative difference", worst, at_most=1e-5, unit=""),
            target("WavLM's attention, forward at 6 s", six_seconds[False], at_least=1.0),
            target("WavLM's attention, forward and backward at 6 s", six_seconds[True], at_least=1.0),
        ],
        limits=machine,
    )


class AttentionLayer:
    """A layer of attention, and states to attend to.

    Args:
        encoders (`dict[str, WavLMModel]`): Whose first layer it is, by the name of the way; they share their weights.
        options (`argparse.Namespace`): Device, precision and clips.
        frames (`int`): Of each clip.
        is_padded (`bool`): Whether every other clip has half of them.
    """

    def __init__(self, encoders: dict[str, Any], options: Any, frames: int, is_padded: bool) -> None:
        self.options, self.frames = options, frames
        self.attention = {name: encoder.encoder.layers[0].attention for name, encoder in encoders.items()}
        generator = torch.Generator().manual_seed(0)
        states, weights = torch.randn(2, options.batch_size, frames, options.width, generator=generator)
        self.states, self.weights = states.to(options.device).requires_grad_(), weights.to(options.device)
        self.mask = None
        if is_padded:
            lengths = torch.tensor([frames if clip % 2 == 0 else frames // 2 for clip in range(options.batch_size)])
            self.mask = (torch.arange(frames) < lengths[:, None]).long().to(options.device)
        if self.mask is not None:  # what comes out for padding is of no use, and differs
            self.weights = self.weights * self.mask[..., None]

    def runs(self, name: str, with_gradient: bool) -> Callable[[], list[torch.Tensor]]:
        """The layer behind the first, which has the positions looked up already."""
        attention, position = self.attention[name], self.position(name)
        # Softmax does not see the bias of the keys: its gradient is 0, up to rounding.
        moved = [each for name, each in attention.named_parameters() if name not in ("k_proj.bias", _LOOKED_UP)]

        def attend() -> torch.Tensor:
            with precision(self.options.device, self.options.dtype):
                return attention(self.states, attention_mask=self.mask, position_bias=position)[0]

        def forward() -> list[torch.Tensor]:
            with torch.inference_mode():
                return [attend()]

        def forward_and_backward() -> list[torch.Tensor]:
            attended = attend()
            return [attended, *torch.autograd.grad((attended * self.weights).sum(), [*moved, self.states, position])]

        return forward_and_backward if with_gradient else forward

    def position(self, name: str) -> torch.Tensor:
        """As the first layer gives it."""
        with torch.no_grad():
            found = self.attention[name].compute_bias(self.frames, self.frames)[None]
        if name == "eager":  # transformers repeats it for each clip
            found = found.repeat(self.options.batch_size, 1, 1, 1).flatten(0, 1)
        return found.contiguous().requires_grad_()

    def compare(self, with_gradient: bool) -> float:
        """The largest difference of what both ways give, in float32, relative to the largest number of each tensor."""
        dtype, self.options.dtype = self.options.dtype, "float32"
        eager, sdpa = ([each.detach() for each in self.runs(name, with_gradient)()] for name in ("eager", "sdpa"))
        self.options.dtype = dtype
        eager[0], sdpa[0] = (output * (self.weights != 0) for output in (eager[0], sdpa[0]))
        if with_gradient:  # transformers repeats the positions for each clip
            eager[-1] = eager[-1].unflatten(0, (self.options.batch_size, -1)).sum(dim=0, keepdim=True)
        return max(float((want - got).abs().max() / want.abs().max()) for want, got in zip(eager, sdpa, strict=True))


if __name__ == "__main__":
    main()
