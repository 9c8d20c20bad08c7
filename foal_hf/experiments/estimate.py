"""What a recipe costs before it is run: parameters, memory, and time, with and without stored features.

No weight is made or loaded: the model stands on torch's meta device, where `steps.py` and `counting.py` see every
operation of a step. A [`~foal_hf.experiments.machines.Machine`] turns operations into seconds.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..data.sampling import BalancedLengthSampler
from ..foal_net.video_processing_foal_net import FoalNetVideoProcessor
from ..training.arguments import FoalNetTrainingArguments
from .clips import BOTH
from .lengths import CorpusLengths
from .machines import Machine, this_machine
from .predictions import conditions_of
from .recipe import Recipe
from .steps import Source, Steps


_NUM_NODES = 3  # lengths at which a step is counted; between them time is interpolated
_MAX_BATCH = 4096


@dataclass(frozen=True)
class Memory:
    """Bytes of a training step on the longest clips.

    Args:
        weights (`int`): Parameters and buffers.
        gradients (`int`): Of what is trained.
        optimizer (`int`): Its state.
        activations (`int`): What the forward pass keeps for the backward pass.
        peak (`int`): The most that is held at a time. Less than the sum, since activations go as gradients come; more
            if an image encoder needs more for a moment.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int


@dataclass(frozen=True)
class Cost:
    """What training costs, from video or from stored features.

    Args:
        flops_per_clip (`float`): Operations of a training step for each clip, all of the greatest length.
        memory ([`Memory`]): Of a step.
        largest_batch (`int`): Clips of the largest batch that fits; 0 if none does.
        step_seconds (`float`): A training step, on average.
        epoch_seconds (`float`): Training and validation, the mean of all folds.
        all_folds_seconds (`float`): All epochs and the test of every fold, and computing the features once.
    """

    flops_per_clip: float
    memory: Memory
    largest_batch: int
    step_seconds: float
    epoch_seconds: float
    all_folds_seconds: float


@dataclass(frozen=True)
class Estimate:
    """What [`estimate`] found.

    Args:
        recipe, audio_encoder, vision_encoder, machine, precision (`str`): What it is of.
        parameters, trained_parameters (`int`): Numbers of the model, and those that are trained.
        num_clips, num_folds, batch_size (`int`): Of the corpus and of a step.
        num_epochs (`float`): Of each fold.
        longest_seconds (`float`): The longest clip as the model sees it.
        features_seconds (`float`, *optional*): Time to compute the features of all clips; None if there are none.
        video ([`Cost`]): With the image encoder in every step.
        features ([`Cost`], *optional*): With stored features; None where the image encoder is trained.
        assumptions (`tuple[str, ...]`): All that was taken for granted, in sentences.
    """

    recipe: str
    audio_encoder: str
    vision_encoder: str
    machine: str
    precision: str
    parameters: int
    trained_parameters: int
    num_clips: int
    num_folds: int
    batch_size: int
    num_epochs: float
    longest_seconds: float
    features_seconds: float | None
    video: Cost
    features: Cost | None
    assumptions: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def render(self) -> str:
        """The estimate as text, with a Markdown table."""
        costs = [cost for cost in (self.video, self.features) if cost is not None]

        def row(name: str, show: Callable[[Cost], str]) -> str:
            return f"| {' | '.join([name, *map(show, costs)])} |"

        sources = ["from video", "from stored features"][: len(costs)]
        lines = [
            f"Recipe {self.recipe}: {self.audio_encoder} and {self.vision_encoder}",
            f"{self.parameters / 1e6:,.1f} million parameters, of which {self.trained_parameters / 1e6:,.1f} million "
            f"({self.trained_parameters / self.parameters:.1%}) are trained",
            f"{self.num_clips} clips, {self.num_folds} {'fold' if self.num_folds == 1 else 'folds'}, {self.machine}",
            "",
            f"| {' | '.join([f'{self.batch_size} clips a step, {self.precision}', *sources])} |",
            f"| --- {'| --- ' * len(costs)}|",
            row(f"GFLOP a clip of {self.longest_seconds:.3g} s", lambda cost: f"{cost.flops_per_clip / 1e9:,.1f}"),
            *(
                row(f"memory: {each.name}", lambda cost, name=each.name: _size(getattr(cost.memory, name)))  # type: ignore[misc]
                for each in dataclasses.fields(Memory)
            ),
            row("largest batch that fits", lambda cost: str(cost.largest_batch)),
            row("time of a step", lambda cost: _time(cost.step_seconds)),
            row("time of an epoch", lambda cost: _time(cost.epoch_seconds)),
            row(f"time of all folds, {self.num_epochs:g} epochs each", lambda cost: _time(cost.all_folds_seconds)),
        ]
        if self.features_seconds is not None:
            lines.append(
                f"\nThe last row includes {_time(self.features_seconds)} to compute the features of all clips."
            )
        return "\n".join([*lines, "", "Assumed:", *(f"- {each}" for each in self.assumptions)])


def estimate(recipe: Recipe, corpus: CorpusLengths, machine: Machine | None = None) -> Estimate:
    """Estimate what the cross-validation of a recipe costs.

    Args:
        recipe ([`Recipe`]): Everything except the clips.
        corpus ([`~foal_hf.experiments.lengths.CorpusLengths`]): The clips.
        machine ([`~foal_hf.experiments.machines.Machine`], *optional*): Where it would run, see
            [`~foal_hf.experiments.machines.gpu`]; by default this machine is measured.

    Returns:
        [`Estimate`]

    Raises:
        ValueError: If the machine lacks the precision of the recipe, or the recipe pads to a length it does not give.
        OSError: If the configuration of an encoder is neither packaged nor found.

    Example:
        ```python
        >>> from foal_hf.experiments.lengths import assumed_lengths
        >>> from foal_hf.experiments.machines import gpu
        >>> found = estimate(load_recipe("base"), assumed_lengths(5531, 4.55), gpu("RTX 3070"))
        >>> found.features.memory.peak < 8 * 2**30
        True
        ```
    """
    machine = this_machine() if machine is None else machine
    steps = Steps(recipe, machine, corpus.num_labels)
    plan = _Plan(recipe, steps, corpus)
    from_video = plan.cost("video")
    return Estimate(
        recipe=recipe.name,
        audio_encoder=recipe.audio_encoder or recipe.from_scratch.audio_encoder,
        vision_encoder=recipe.vision_encoder or recipe.from_scratch.vision_encoder,
        machine=machine.name,
        precision=steps.precision,
        parameters=steps.parameters,
        trained_parameters=steps.trained_parameters,
        num_clips=len(corpus.seconds),
        num_folds=len(corpus.folds),
        batch_size=steps.batch_size,
        num_epochs=plan.num_epochs,
        longest_seconds=plan.longest,
        features_seconds=plan.features_seconds if steps.has_features else None,
        video=from_video,
        features=plan.cost("features") if steps.has_features else None,
        assumptions=(*corpus.assumptions, *machine.assumptions, *steps.assumptions, *plan.assumptions),
    )


class _Plan:
    """All steps of all folds."""

    def __init__(self, recipe: Recipe, steps: Steps, corpus: CorpusLengths) -> None:
        training = recipe.training
        limit = recipe.processor.get("max_seconds", FoalNetVideoProcessor.max_seconds)
        if recipe.padding == "max_length" and limit is None:
            raise ValueError("The padding 'max_length' needs `max_seconds`, which is null: change one of them.")
        self.steps, self.corpus = steps, corpus
        self.seconds = np.clip(corpus.seconds, steps.shortest_seconds, limit)
        self.padded_to: float | None = limit if recipe.padding == "max_length" else None
        self.longest = float(self.padded_to or self.seconds.max())
        self.num_epochs = float(training.get("num_train_epochs", FoalNetTrainingArguments.num_train_epochs))
        self.eval_batch_size: int = training.get(
            "per_device_eval_batch_size", FoalNetTrainingArguments.per_device_eval_batch_size
        )
        self.balanced = training.get("class_balanced", FoalNetTrainingArguments.class_balanced)
        strategy = training.get("train_sampling_strategy", FoalNetTrainingArguments.train_sampling_strategy)
        self.by_length = strategy == "group_by_length"
        self.assumptions = (
            f"Memory is that of a batch of clips of {self.longest:.3g} s each, with what kernels allocate for "
            "themselves left out. Evaluation needs less, unless its batches are much larger.",
            "Clips are read by other processes and in time; reading them, saving checkpoints, and calibration are not "
            "counted. One device trains.",
        )

    @property
    def features_seconds(self) -> float:
        """Time to compute the features of every clip once."""
        return self.steps.image_seconds * sum(map(self.steps.num_frames, self.seconds))

    def cost(self, source: Source) -> Cost:
        """Of one way to train."""
        steps = self.steps
        longest = steps.count(source, steps.batch_size, self.longest)
        memory = Memory(
            steps.weight_bytes,
            steps.gradient_bytes,
            steps.optimizer_bytes,
            longest.saved_bytes,
            steps.peak_bytes(longest),
        )
        train = [self._epoch(source, fold.train, training=True) for fold in self.corpus.folds]
        validate = [self._epoch(source, fold.validation, training=False)[0] for fold in self.corpus.folds]
        tests = len(conditions_of(steps.config, BOTH))
        test = sum(tests * self._epoch(source, fold.test, training=False)[0] for fold in self.corpus.folds)
        epochs = sum(seconds for seconds, _ in train) + sum(validate)
        return Cost(
            flops_per_clip=longest.flops / steps.batch_size,
            memory=memory,
            largest_batch=self._largest_batch(source, memory.peak),
            step_seconds=sum(seconds for seconds, _ in train) / sum(number for _, number in train),
            epoch_seconds=epochs / len(train),
            all_folds_seconds=self.num_epochs * epochs + test + (self.features_seconds if source == "features" else 0),
        )

    def _epoch(self, source: Source, rows: Sequence[int], *, training: bool) -> tuple[float, int]:
        """Seconds and number of the steps of an epoch."""
        if not len(rows):
            return 0.0, 0
        seconds = self.seconds[np.asarray(rows)]
        size = min(self.steps.batch_size if training else self.eval_batch_size, len(rows))
        order: Sequence[int] = range(len(rows))
        if training:
            classes = self.corpus.classes if self.balanced else None
            order = list(
                BalancedLengthSampler(
                    len(rows),
                    size,
                    labels=None if classes is None else [classes[row] for row in rows],
                    lengths=seconds.tolist() if self.by_length else None,
                )
            )
        batches = [seconds[list(order[start : start + size])] for start in range(0, len(rows), size)]
        lengths, curve = self._curve(source, training)
        total = len(batches) * self.steps.update_seconds if training else 0.0
        for batch in batches:
            if self.steps.clip_by_clip:
                total += float(np.interp(batch, lengths, curve).sum())
            else:
                share = len(batch) / (self.steps.batch_size if training else self.eval_batch_size)
                total += float(np.interp(self.padded_to or batch.max(), lengths, curve)) * share
            if source == "video" and self.steps.has_features:  # it never sees padding
                total += self.steps.image_seconds * sum(map(self.steps.num_frames, batch))
        return total, len(batches)

    def _curve(self, source: Source, training: bool) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of a step at some lengths; where the image encoder is frozen, without it."""
        steps = self.steps
        source = "features" if steps.has_features else source
        if (training, source) not in self._curves:
            size = 1 if steps.clip_by_clip else steps.batch_size if training else self.eval_batch_size
            lengths = np.linspace(
                self.padded_to or self.seconds.min(), self.longest, 1 if self.padded_to else _NUM_NODES
            )
            works = [steps.count(source, size, float(length), backward=training) for length in lengths]
            self._curves[training, source] = lengths, np.array([steps.machine.seconds(work) for work in works])
        return self._curves[training, source]

    @cached_property
    def _curves(self) -> dict[tuple[bool, Source], tuple[np.ndarray, np.ndarray]]:
        return {}

    def _largest_batch(self, source: Source, peak: int) -> int:
        """The most clips whose step fits. Memory grows almost linearly with the batch; the result is counted."""
        usable = self.steps.machine.usable_bytes

        def peak_of(batch: int) -> int:
            return self.steps.peak_bytes(self.steps.count(source, batch, self.longest))

        below, above = (1, peak_of(1)), (self.steps.batch_size, peak)
        if below[1] > usable:
            return 0
        if above[0] == 1:
            above = (2, peak_of(2))
        for _ in range(3):
            slope = max((above[1] - below[1]) / (above[0] - below[0]), 1.0)
            guess = min(int(below[0] + (usable - below[1]) / slope), _MAX_BATCH)
            if guess in (below[0], above[0]):
                break
            above = (guess, peak_of(guess))
            if above[1] <= usable and (usable - above[1]) < slope:
                break
        while above[1] > usable and above[0] > 1:
            above = (above[0] - 1, peak_of(above[0] - 1))
        return above[0]


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:,.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:,.0f} MiB"


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{1000 * seconds:,.0f} ms"


__all__ = ["Cost", "Estimate", "Memory", "estimate"]
