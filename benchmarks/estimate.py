"""Estimated steps against measured ones: `python benchmarks/estimate.py`.

`foal-hf estimate` counts a step on the meta device and measures the machine for a second. Here the same steps are run:
forward, backward and AdamW, with encoders of some layers and random weights. Each round measures the machine and then
every step, and compares the two of the same round. The memory is that of a process of its own, without what it held
before the model was made.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from harness import Timing, arguments, in_a_process, save, seconds_of, target
from transformers import CLIPVisionConfig, WavLMConfig

from foal_hf import FoalNetForEmotionClassification
from foal_hf.experiments.machines import Machine, this_machine
from foal_hf.experiments.recipe import Recipe
from foal_hf.experiments.steps import Source, Steps
from foal_hf.experiments.tiny import make_tiny_model


# The audio encoder's norm, and what the video comes as.
CASES: dict[str, tuple[str, Source]] = {
    "layer norm, stored features": ("layer", "features"),
    "layer norm, video": ("layer", "video"),
    "group norm, stored features": ("group", "features"),
    "group norm, video": ("group", "video"),
}


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        short={"layers": 1, "width": 64, "batch_size": 2, "seconds": 1.0, "rounds": 2},
        rounds=7,
        layers={"type": int, "default": 3, "help": "of each encoder (%(default)s)"},
        width={"type": int, "default": 512, "help": "of the encoders (%(default)s)"},
        batch_size={"type": int, "default": 4, "help": "clips (%(default)s)"},
        seconds={"type": float, "default": 3.0, "help": "of each (%(default)s)"},
    )
    predicted: dict[str, list[float]] = {name: [] for name in CASES}
    measured: dict[str, list[float]] = {name: [] for name in CASES}
    runs = {name: Run(options, name) for name in CASES}
    for run in runs.values():
        run()  # not counted
    for _ in range(options.rounds):
        for name, run in runs.items():
            machine = this_machine()
            measured[name].append(seconds_of(run))
            predicted[name].append(run.seconds_on(machine))
    memory = {name: in_a_process(step_alone, vars(options), name) for name in CASES}
    report(options, runs, predicted, measured, memory)


class Run:
    """A step of one case, for real and on the meta device."""

    def __init__(self, options: argparse.Namespace, name: str) -> None:
        norm, self.source = CASES[name]
        self.options = options
        with tempfile.TemporaryDirectory() as folder:
            self.steps = Steps(make_recipe(Path(folder), options, norm), this_machine(), num_labels=4)
        self.work = self.steps.count(self.source, options.batch_size, options.seconds)
        torch.manual_seed(0)
        config = self.steps.config
        config.audio_config.layerdrop = config.audio_config.mask_time_prob = 0.0  # as counted
        self.model: Any = FoalNetForEmotionClassification(config).train()
        self.optimizer = torch.optim.AdamW([each for each in self.model.parameters() if each.requires_grad], fused=True)
        batch = self.steps.make_batch(self.source, options.batch_size, options.seconds)
        self.batch = {
            key: torch.zeros(like.shape, dtype=torch.long) if like.dtype == torch.long else torch.randn(like.shape)
            for key, like in batch.items()
        }
        self.batch["labels"] = torch.arange(options.batch_size) % 4

    def __call__(self) -> None:
        self.model(**self.batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def seconds_on(self, machine: Machine) -> float:
        """What the machine should need."""
        self.steps.machine = machine
        return machine.seconds(self.work) + self.steps.update_seconds


def make_recipe(folder: Path, options: argparse.Namespace, norm: str) -> Recipe:
    """Encoders of some layers; only their configurations are on disk."""
    width = options.width
    sizes = {
        "hidden_size": width,
        "num_hidden_layers": options.layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
    }
    stable = {"feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer"}
    WavLMConfig(**sizes, **stable, conv_dim=[width // 2] * 7).save_pretrained(folder / "audio")
    CLIPVisionConfig(**sizes, patch_size=32, projection_dim=width).save_pretrained(folder / "vision")
    return Recipe("benchmark", audio_encoder=str(folder / "audio"), vision_encoder=str(folder / "vision"))


def step_alone(options: dict[str, Any], name: str) -> int:
    """Two steps, since the state of the optimiser is there from the second on; gives the memory before the model."""
    import psutil  # type: ignore[import-untyped]

    make_tiny_model()(input_values=torch.randn(2, 8000), labels=torch.arange(2)).loss.backward()  # loads the libraries
    before = psutil.Process().memory_info().rss
    run = Run(argparse.Namespace(**options), name)
    run(), run()
    return before


def report(
    options: argparse.Namespace,
    runs: dict[str, Run],
    predicted: dict[str, list[float]],
    measured: dict[str, list[float]],
    memory: dict[str, tuple[int, int]],
) -> None:
    rows, ratios, memory_ratios = [], {}, {}
    for name, run in runs.items():
        pairs = zip(predicted[name], measured[name], strict=True)
        ratios[name] = statistics.median(guess / taken for guess, taken in pairs)
        before, peak = memory[name]
        needed, held = run.steps.peak_bytes(run.work), peak - before
        memory_ratios[name] = needed / held
        rows.append(
            (
                name,
                run.work.flops / 1e9,
                Timing.of(predicted[name]),
                Timing.of(measured[name]),
                ratios[name],
                needed,
                held,
                memory_ratios[name],
            )
        )
    save(
        "estimate",
        "Estimated and measured training steps",
        {
            "case": "",
            "GFLOP": "",
            "estimated": "s",
            "measured": "s",
            "ratio": "x",
            "memory estimated": "B",
            "memory measured": "B",
            "ratio of memory": "x",
        },
        rows,
        [
            f"{options.batch_size} clips of {options.seconds:g} s, encoders of {options.layers} layers, "
            f"{options.width} wide. The ratio is the median over the rounds of the estimate to the measurement.",
        ],
        options=options,
        targets=[
            target(f"Estimate of {what}, {name}", ratio, at_least=0.75, at_most=1.25)
            for what, found in (("the time", ratios), ("the memory", memory_ratios))
            for name, ratio in found.items()
        ],
    )


if __name__ == "__main__":
    main()
