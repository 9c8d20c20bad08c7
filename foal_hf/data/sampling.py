"""Which clip comes when: classes in balance, and clips of like length together so that batches carry little padding."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


# A label that says "unknown", as in the losses.
_UNKNOWN = -100
# So many batches are filled from one pool that is sorted by length. On lengths distributed like those of IEMOCAP, in
# batches of 16, that leaves 4 % of the frames padding (8 batches: 7 %, 32: 2 %); a larger pool would let more and more
# decide by length who meets whom in a batch, which the losses that contrast clips do not want. With many processes the
# pool is filled for so many rounds of them instead: the fewer rounds, the longer they wait for the longest batch.
_POOL_BATCHES = 16
_POOL_ROUNDS = 8


class BalancedLengthSampler(Sampler[int]):
    """Order of the clips of an epoch, balanced over classes, grouped by length, both or neither.

    It gives indices one by one, for a loader that cuts them into batches of `batch_size` (`DataLoader(sampler=...)`,
    which is what Trainer does). Every epoch is a function of `(seed, epoch)` and nothing else: all processes of a
    distributed run draw the same, and accelerate deals its batches out, batch `i` to process `i % num_processes`.

    Balanced: `num_samples` clips are drawn with replacement, each with probability

        p_i = 1 / (num_classes * clips of the class of i)

    as published, so that every class has an equal share and a clip of a small class comes more often. A clip whose
    label is -100 is never drawn.

    Grouped: the order is random, and stretches of it (16 batches or more) are sorted by length and cut into batches,
    which are then shuffled. Batches that several processes take at the same time stay neighbours in length, so that
    nobody waits for the longest. The copies of a clip that was drawn more than once are spread over the epoch, because
    sorted together they would be each other's partners in the contrastive loss. The longest batch of all comes first in
    epoch 0, so that a batch that does not fit into memory fails in the first step. What does not fill a batch is last.

    Args:
        num_clips (`int`): Size of the dataset.
        batch_size (`int`): Clips of a batch of one process.
        labels (`Sequence[int]` of length `num_clips`, *optional*): Class index of every clip: balance the classes.
        lengths (`Sequence[float]` of length `num_clips`, *optional*): How long every clip is, in any unit: group by it.
        num_processes (`int`, defaults to 1): Processes that train together.
        num_samples (`int`, *optional*): Clips of a balanced epoch; `num_clips` by default.
        seed (`int`, defaults to 0): Not negative.

    Raises:
        ValueError: If lengths do not agree, a size is not positive, or no label is known.

    Example:
        ```python
        >>> sampler = BalancedLengthSampler(5, batch_size=2, labels=[0, 0, 0, 0, 1], lengths=[3.1, 0.9, 6.0, 2.2, 4.5])
        >>> sampler.set_epoch(1)
        >>> len(list(sampler))
        5
        ```
    """

    def __init__(
        self,
        num_clips: int,
        batch_size: int,
        *,
        labels: Sequence[int] | None = None,
        lengths: Sequence[float] | None = None,
        num_processes: int = 1,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("num_clips", num_clips), ("batch_size", batch_size), ("num_processes", num_processes)):
            if value < 1:
                raise ValueError(f"`{name}` is {value}; expected 1 or more.")
        for name, values in (("labels", labels), ("lengths", lengths)):
            if values is not None and len(values) != num_clips:
                raise ValueError(f"`{name}` has {len(values)} values for {num_clips} clips; expected one for each.")
        if num_samples is not None and (labels is None or num_samples < 1):
            raise ValueError(
                f"`num_samples` is {num_samples}; it is the size of an epoch that is drawn with replacement, so it "
                "needs `labels`, and has to be 1 or more."
            )
        self.num_clips = num_clips
        self.batch_size = batch_size
        self.num_processes = num_processes
        self.num_samples = num_samples or num_clips
        self.seed = seed
        self.epoch = 0
        self._probabilities = None if labels is None else _balancing_probabilities(np.asarray(labels))
        self._lengths = None if lengths is None else np.asarray(lengths, dtype=np.float64)

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass draws; accelerate's loaders and Trainer call this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        if self._probabilities is None:
            order = rng.permutation(self.num_clips)
        else:
            order = rng.choice(self.num_clips, size=self.num_samples, p=self._probabilities)
        if self._lengths is not None:
            order = self._grouped(_spread_copies(order, rng), self._lengths, rng)
        yield from order.tolist()

    def _grouped(self, order: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`order` in batches of like length; shuffled are the batches that are taken at the same time, together."""
        together = self.batch_size * self.num_processes
        pool = together * max(_POOL_ROUNDS, _POOL_BATCHES // self.num_processes)
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        by_length = np.concatenate([_sort_by_length(clips, lengths, rng) for clips in pools])
        num_rounds = len(order) // together
        rounds = by_length[: num_rounds * together].reshape(num_rounds, together)
        rounds = rounds[rng.permutation(num_rounds)]
        if self.epoch == 0 and num_rounds:
            longest = int(lengths[rounds].max(axis=1).argmax())
            rounds[[0, longest]] = rounds[[longest, 0]]
        return np.concatenate([rounds.ravel(), by_length[num_rounds * together :]])


def padded_share(order: Sequence[int], lengths: Sequence[float], batch_size: int) -> float:
    """Share of a corpus' batches that is padding, when each is padded to its longest clip.

    Args:
        order (`Sequence[int]`): Indices of clips, cut into batches from the start.
        lengths (`Sequence[float]`): How long every clip is, as it is read.
        batch_size (`int`): Clips of a batch.

    Returns:
        `float`: In [0, 1).
    """
    in_order = np.asarray(lengths, dtype=np.float64)[np.asarray(order)]
    batches = [in_order[start : start + batch_size] for start in range(0, len(in_order), batch_size)]
    return 1.0 - in_order.sum() / sum(batch.max() * len(batch) for batch in batches)


def _balancing_probabilities(labels: np.ndarray) -> np.ndarray:
    """Probability of every clip, such that all classes are equally likely."""
    known = labels != _UNKNOWN
    if not known.any():
        raise ValueError(f"Classes cannot be balanced: every one of {len(labels)} labels is {_UNKNOWN}, unknown.")
    _, classes, sizes = np.unique(labels[known], return_inverse=True, return_counts=True)
    probabilities = np.zeros(len(labels))
    probabilities[known] = 1.0 / (len(sizes) * sizes[classes])
    return probabilities


def _spread_copies(drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random order in which the copies of a clip lie equally far apart."""
    ordered, which_copy, copies = _number_copies(drawn)
    start = rng.random(ordered.max() + 1)[ordered]
    place = (start + which_copy / copies) % 1.0  # in [0, 1): the epoch from beginning to end
    return ordered[np.argsort(place)]


def _sort_by_length(drawn: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clips from long to short, then the second copies from short to long, and so on; equal lengths in random order."""
    ordered, which_copy, _ = _number_copies(drawn)
    direction = np.where(which_copy % 2, 1, -1)
    return ordered[np.lexsort((rng.random(len(ordered)), direction * lengths[ordered], which_copy))]


def _number_copies(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clips in ascending order, and of each which copy it is, from 0 on, and of how many."""
    ordered = np.sort(drawn)
    first = np.searchsorted(ordered, ordered, side="left")
    return ordered, np.arange(len(ordered)) - first, np.searchsorted(ordered, ordered, side="right") - first


__all__ = ["BalancedLengthSampler", "padded_share"]
