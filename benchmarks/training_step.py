"""Training steps of the package and of the published recipe: `python benchmarks/training_step.py`.

Clips per second over batches of IEMOCAP's lengths, and the peak memory of a step on the longest batch there is, each
way in a process of its own. WavLM-large's width with `--layers` layers, stored features for both ways (recomputing them
is no part of the published step either), forward, backward and AdamW.

The package pads to the longest of a batch of like length, leaves slow attention aside and fuses the pairs once. Its
optimiser is the one that Trainer takes by default; the published one is torch's AdamW as it comes.
"""

import argparse
import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from harness import Limits, Timing, arguments, compare, in_a_process, limits, save, target
from published import PublishedFoalNet
from workload import (
    DEFAULT_FRAMES_PER_SECOND,
    MAX_SECONDS,
    PUBLISHED_FRAMES_PER_SECOND,
    Epoch,
    make_batch,
    make_config,
    make_model,
    training_flops,
)


PUBLISHED, SAME_RATE, DEFAULT = "published", "package, 30 frames a second", "package, its default of 5"
WAYS = {
    PUBLISHED: PUBLISHED_FRAMES_PER_SECOND,
    SAME_RATE: PUBLISHED_FRAMES_PER_SECOND,
    DEFAULT: DEFAULT_FRAMES_PER_SECOND,
}
FUSION_PASSES = {PUBLISHED: 3, SAME_RATE: 2, DEFAULT: 2}


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        short={"layers": 2, "width": 128, "batch_size": 2, "memory_batch_size": 2, "num_batches": 2, "rounds": 3},
        rounds=3,
        layers={"type": int, "default": 4, "help": "of the audio encoder (%(default)s)"},
        width={"type": int, "default": 1024, "help": "of the encoders (%(default)s)"},
        batch_size={"type": int, "default": 4, "help": "clips, where time is measured (%(default)s)"},
        memory_batch_size={"type": int, "default": 16, "help": "where memory is, as published (%(default)s)"},
        num_batches={"type": int, "default": 3, "help": "of an epoch, evenly spaced by length (%(default)s)"},
    )
    machine = limits(options.device, options.dtype)
    epoch = Epoch.of(options.num_batches, options.batch_size)
    model = make_model(options.layers, width=options.width).to(options.device)
    published = PublishedFoalNet(model)
    difference = compare_losses(model, published, epoch.batches[0][:3], options.device)

    trainers = {name: Trainer(published if name == PUBLISHED else model, name, options) for name in WAYS}
    timings = compare({name: trainers[name].epoch_of(epoch) for name in WAYS}, options.rounds)
    clips = {name: options.batch_size * (1 if name == PUBLISHED else len(epoch.batches)) for name in WAYS}
    timings = {name: timing.scaled(1 / clips[name]) for name, timing in timings.items()}
    del trainers, model, published
    memory = {name: in_a_process(step_alone, vars(options), name)[1] for name in WAYS}
    report(options, epoch, machine, timings, memory, difference)


class Trainer:
    """One way to train.

    Args:
        model (`torch.nn.Module`): Of the package, or the published one.
        name (`str`): Which way of `WAYS`.
        options (`argparse.Namespace`): Device and precision.
    """

    def __init__(self, model: Any, name: str, options: argparse.Namespace) -> None:
        self.model, self.name, self.options = model, name, options
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # The same small rate for all, so that shared weights stay what they are.
        self.optimizer = torch.optim.AdamW(trained, lr=1e-8, fused=name != PUBLISHED)

    def epoch_of(self, epoch: Epoch) -> Any:
        """What trains on the batches; a published batch costs the same whatever is in it, so one will do."""
        if self.name == PUBLISHED:
            batches = [self.make_batch(epoch.batches[len(epoch.batches) // 2])]
        else:
            batches = [self.make_batch(seconds) for seconds in epoch.batches]
        return lambda: [self.step(batch) for batch in batches]

    def make_batch(self, seconds: Sequence[float]) -> dict[str, torch.Tensor]:
        padded_to = MAX_SECONDS if self.name == PUBLISHED else None
        width = self.model.config.video_width
        return make_batch(seconds, WAYS[self.name], width, padded_to=padded_to, device=self.options.device)

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        with precision(self.options.device, self.options.dtype):
            loss = self.model(**batch).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def precision(device: str, dtype: str) -> contextlib.AbstractContextManager[Any]:
    """The published recipe and the package both leave weights in float32, and multiply in `dtype`."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=dtype == "bfloat16")


def step_alone(options: dict[str, Any], name: str) -> None:
    """A step on a batch of nothing but long clips, after a small one that makes the state of the optimiser."""
    settings = argparse.Namespace(**options)
    model = make_model(settings.layers, width=settings.width).to(settings.device)
    trainer = Trainer(PublishedFoalNet(model) if name == PUBLISHED else model, name, settings)
    trainer.step(make_batch([1.0, 1.0], WAYS[name], model.config.video_width, device=settings.device))
    trainer.step(trainer.make_batch([MAX_SECONDS] * settings.memory_batch_size))


def compare_losses(model: Any, published: Any, seconds: Sequence[float], device: str) -> float:
    """The largest difference of loss and logits of both ways in evaluation, in float32."""
    model.eval(), published.eval()
    clips = seconds, PUBLISHED_FRAMES_PER_SECOND, model.config.video_width
    with torch.no_grad():
        got = model(**make_batch(*clips, device=device))
        want = published(**make_batch(*clips, padded_to=MAX_SECONDS, device=device))
    model.train(), published.train()
    difference = max(float((got[name] - want[name]).abs().max()) for name in ("loss", "logits"))
    if not difference < 1e-3:
        raise AssertionError(f"Both ways should give the same loss and logits, but differ by {difference}.")
    return difference


def report(
    options: argparse.Namespace,
    epoch: Epoch,
    machine: Limits,
    timings: dict[str, Timing],
    memory: dict[str, int],
    difference: float,
) -> None:
    config = make_config(options.layers, width=options.width)
    rows = []
    for name, timing in timings.items():
        lengths = [MAX_SECONDS] if name == PUBLISHED else [max(batch) for batch in epoch.batches]
        flops = [training_flops(config, seconds, WAYS[name], FUSION_PASSES[name]) for seconds in lengths]
        flops_each = sum(flops) / len(flops)
        rows.append(
            (
                name,
                timing,
                1 / timing.median,
                timings[PUBLISHED].median / timing.median,
                flops_each / 1e9,
                machine.seconds(flops_each) / timing.median,
                memory[name],
                memory[name] / memory[PUBLISHED],
            )
        )
    on_cpu = torch.device(options.device).type == "cpu"
    save(
        "training_step",
        "Training steps, packaged and published",
        {
            "way": "",
            "a clip": "s",
            "clips a second": "",
            "ratio": "x",
            "GFLOP a clip": "",
            "share of the matrix product's limit": "%",
            "peak memory": "B",
            "share of the published": "x",
        },
        rows,
        [
            f"{options.layers} layers of WavLM, {options.width} wide, batches of {options.batch_size} for the time and "
            f"of {options.memory_batch_size}, all as long as clips get, for the memory. The {len(epoch.batches)} "
            f"batches that are timed are padded to {epoch.chosen_seconds:.2f} s on average, all of an epoch to "
            f"{epoch.padded_seconds:.2f} s; published to {MAX_SECONDS:.0f} s always.",
            f"On the same clips and weights, loss and logits of both ways differ by {difference:.0e} at most.",
            "The features of the frozen image encoder are stored in both. Recomputed, as a recipe without a store has "
            "to, they would take 29 TFLOP more for 180 frames of a clip, over a hundred times the step.",
        ],
        options=options,
        targets=[
            target(
                "Training, clips a second, same frames",
                timings[PUBLISHED].median / timings[SAME_RATE].median,
                at_least=1.7 if on_cpu else 3.0,
            ),
            target("Training, peak memory, same frames", memory[SAME_RATE] / memory[PUBLISHED], at_most=0.6),
        ],
        limits=machine,
    )


if __name__ == "__main__":
    main()
