"""Two processes that train together against one, on the CPU: `python benchmarks/ddp.py`.

The same optimiser steps on the same clips, of which two processes take half each: gloo, one thread each. One process
does them with one thread and with two. Widths are the published ones, with `--layers` layers of WavLM-large; features
of the picture are stored ones. Clips are neighbours in length, as the package's sampler puts them together.
"""

import argparse
import math
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from harness import Timing, arguments, compare, limits, save
from torch.nn.parallel import DistributedDataParallel

from foal_hf import FoalNetConfig, FoalNetForEmotionClassification


RANKS = 2
SAMPLING_RATE, FRAMES_PER_SECOND = 16_000, 5
POOL_BATCHES = 16  # that the sampler sorts by length together
ONE, TWO_THREADS, TWO_RANKS, APART = (
    "one process, one thread",
    "one process, two threads",
    "two processes, one thread each",
    "two processes that do not wait for each other's gradients",
)


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        short={"rounds": 1, "layers": 1, "batch_size": 4},
        layers={"type": int, "default": 4, "help": "of the audio encoder (%(default)s)"},
        width={"type": int, "default": 1024, "help": "of the audio encoder (%(default)s)"},
        batch_size={"type": int, "default": 8, "help": "clips of a step, over all processes (%(default)s)"},
    )
    best = limits()
    with two_ranks(options) as ask:
        step, loss, num_trained = make_step(options)
        losses = {ONE: loss, TWO_RANKS: sum(ask("loss")) / RANKS}

        def alone(threads: int) -> Callable[[], object]:
            return lambda: (torch.set_num_threads(threads), step(True))

        ways = {
            ONE: alone(1),
            TWO_THREADS: alone(RANKS),
            TWO_RANKS: lambda: ask("step"),
            APART: lambda: ask("step apart"),
        }
        try:
            times = compare(ways, options.rounds)
        finally:
            torch.set_num_threads(options.threads)
    if not math.isclose(losses[ONE], losses[TWO_RANKS], rel_tol=1e-4):
        raise RuntimeError(f"The ways do not train on the same: their losses before the first step are {losses}.")
    report(options, times, losses, num_trained, best)


def report(options: argparse.Namespace, times: dict[str, Timing], losses: dict, num_trained: int, best: Any) -> None:
    def rate(name: str) -> float:
        return options.batch_size / times[name].median

    num_bytes = 4 * num_trained
    waiting = 1 - times[APART].median / times[TWO_RANKS].median
    save(
        "ddp",
        f"A training step of {options.batch_size} clips, {options.layers} layers",
        {"way": "", "step": "s", "throughput": "clips/s", "to one thread": "x", "to two threads": "x"},
        [
            [name, timing, rate(name), rate(name) / rate(ONE), rate(name) / rate(TWO_THREADS)]
            for name, timing in times.items()
        ],
        [
            f"Efficiency, the throughput of two processes to twice that of one with one thread: "
            f"{rate(TWO_RANKS) / rate(ONE) / RANKS:.0%}; of two threads in one process: "
            f"{rate(TWO_THREADS) / rate(ONE) / RANKS:.0%}. Before the first step the mean loss of the two processes is "
            f"that of the one: {losses[TWO_RANKS]:.6f} and {losses[ONE]:.6f}.",
            f"{num_trained / 1e6:.0f} million weights are trained. Every step averages {num_bytes / 1e6:.0f} MB of "
            f"gradients over loopback, and waiting for that and for each other takes {waiting:.0%} of a step of two "
            f"processes. Each of them also reads and writes weights, gradients and the two moments of AdamW by itself "
            f"({7 * num_bytes / 1e6:.0f} MB, at best {best.seconds(num_bytes=7 * num_bytes):.2f} s of the memory that "
            "both share), which one process does once for all clips.",
        ],
        options=options,
        limits=best,
    )


def make_step(options: argparse.Namespace, rank: int = 0, ranks: int = 1) -> tuple[Callable[[bool], None], float, int]:
    """A step of training on this rank's clips, the loss of them before it, and how many weights it trains."""
    torch.manual_seed(0)
    config = FoalNetConfig()
    config.vision_config.num_hidden_layers = 1  # never runs: features are given
    config.audio_config.num_hidden_layers = options.layers
    if options.width != config.audio_config.hidden_size:
        config.audio_config.hidden_size, config.audio_config.intermediate_size = options.width, 4 * options.width
        config.audio_config.conv_dim = [options.width] * len(config.audio_config.conv_dim)
    model = FoalNetForEmotionClassification(config)
    batch = make_batch(config, options.batch_size, rank, ranks)
    with torch.no_grad():
        loss = model.eval()(**batch)["classification_loss"].item()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    model.train()
    trained = model if ranks == 1 else DistributedDataParallel(model, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(weights, lr=1e-5)

    def step(together: bool) -> None:
        with ExitStack() as stack:
            if not together:
                stack.enter_context(trained.no_sync())
            trained(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, loss, sum(weight.numel() for weight in weights)


def make_batch(config: FoalNetConfig, batch_size: int, rank: int, ranks: int) -> dict[str, torch.Tensor]:
    """This rank's clips, every `ranks`-th of those in the middle of a sorted pool of lengths like IEMOCAP's."""
    generator = torch.Generator().manual_seed(0)
    spread = math.sqrt(2 * math.log(4.55 / 3.58))
    pool = (torch.randn(POOL_BATCHES * batch_size, generator=generator) * spread + math.log(3.58)).exp()
    first = POOL_BATCHES // 2 * batch_size
    seconds = pool.clamp(0.58, 6.0).sort().values[first : first + batch_size]
    sound = [torch.randn(int(length * SAMPLING_RATE), generator=generator) for length in seconds][rank::ranks]
    frames = [math.ceil(length * FRAMES_PER_SECOND) for length in seconds]
    picture = [torch.randn(count, config.video_width, generator=generator) for count in frames][rank::ranks]
    labels = torch.arange(batch_size) // 2 % config.num_labels
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "input_values": pad(sound, batch_first=True),
        "attention_mask": pad([torch.ones(len(clip), dtype=torch.long) for clip in sound], batch_first=True),
        "video_features": pad(picture, batch_first=True),
        "padding_mask_videos": pad([torch.ones(len(clip), dtype=torch.long) for clip in picture], batch_first=True),
        "labels": labels[rank::ranks],
    }


@contextmanager
def two_ranks(options: argparse.Namespace) -> Iterator[Callable[[str], list[Any]]]:
    """Two processes that are there as long as the context, and a function that has both do something."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pipes = []
        for rank in range(RANKS):
            pipe, other = context.Pipe()
            process = context.Process(target=serve, args=(other, Path(folder) / "meeting", rank, options))
            process.start()
            other.close()  # or its end would not be noticed
            stack.callback(process.join)
            pipes.append(pipe)

        def ask(what: str) -> list[Any]:
            for pipe in pipes:
                pipe.send(what)
            return [pipe.recv() for pipe in pipes]

        stack.callback(lambda: [pipe.send("end") for pipe in pipes])
        yield ask


def serve(pipe: Connection, meeting: Path, rank: int, options: argparse.Namespace) -> None:
    """Do what comes through the pipe, in one of the two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    try:
        step, loss, _ = make_step(options, rank, RANKS)
        while (what := pipe.recv()) != "end":
            pipe.send(loss if what == "loss" else step(what == "step"))
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
