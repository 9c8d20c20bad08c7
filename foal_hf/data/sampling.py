"""Order of the training clips: classes balanced, and clips of similar length batched together for little padding."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


# The label of unlabelled clips, as in the losses.
_UNKNOWN = -100
# Number of batches in one pool, which is sorted by length. On the length distribution of IEMOCAP, in batches of 16, 4 %
# of the frames are padding (8 batches: 7 %, 32: 2 %). In a larger pool the length would determine more and more which
# clips share a batch, and the contrastive losses need random batches. With many processes the pool is this number of
# rounds of all processes instead: with fewer rounds, they would wait longer for the longest batch.
_POOL_BATCHES = 16
_POOL_ROUNDS = 8


class BalancedLengthSampler(Sampler[int]):
    """Order of the clips of an epoch, balanced over classes, grouped by length, both or neither.

    It yields single indices, for a loader that cuts them into batches of `batch_size` (`DataLoader(sampler=...)`, as
    Trainer does). Every epoch depends only on `(seed, epoch)`: all processes of a distributed run draw the same, and
    accelerate distributes the batches, batch `i` to process `i % num_processes`.

    Balanced: `num_samples` clips are drawn with replacement, each with probability

        p_i = 1 / (num_classes * clips of the class of i)

    as published, so that all classes are equally frequent, and clips of a small class are repeated. A clip with the
    label -100 is never drawn.

    Grouped: the order is random; pools of it (16 batches or more) are sorted by length and cut into batches, which are
    then shuffled. Batches that several processes take at the same time have similar lengths, so that no process waits
    for the longest. The copies of a clip that was drawn more than once are spread over the epoch, because in one batch
    they would be positives of each other in the contrastive loss. In epoch 0 the longest batch comes first, so that a
    batch that does not fit into memory fails in the first step. An incomplete batch comes last.

    Args:
        num_clips (`int`): Size of the dataset.
        batch_size (`int`): Clips of a batch of one process.
        labels (`Sequence[int]` of length `num_clips`, *optional*): Class index of every clip, to balance the classes.
        lengths (`Sequence[float]` of length `num_clips`, *optional*): Length of every clip, in any unit, to group by.
        num_processes (`int`, defaults to 1): Processes of a distributed run.
        num_samples (`int`, *optional*): Clips of a balanced epoch; `num_clips` by default.
        seed (`int`, defaults to 0): Not negative.

    Raises:
        ValueError: If sequences differ in length, a size is not positive, or no label is known.

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
                f"`num_samples` is {num_samples}; it has to be 1 or more, and needs `labels`, because it is the size "
                "of an epoch drawn with replacement."
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
        """Set the epoch of the next pass; accelerate's loaders and Trainer call this."""
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
        """`order` in batches of similar length. Batches that are taken at the same time are shuffled together."""
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


def _balancing_probabilities(labels: np.ndarray) -> np.ndarray:
    """Probability of every clip, so that all classes are equally likely."""
    known = labels != _UNKNOWN
    if not known.any():
        raise ValueError(f"Classes cannot be balanced: every one of {len(labels)} labels is {_UNKNOWN}, unknown.")
    _, classes, sizes = np.unique(labels[known], return_inverse=True, return_counts=True)
    probabilities = np.zeros(len(labels))
    probabilities[known] = 1.0 / (len(sizes) * sizes[classes])
    return probabilities


def _spread_copies(drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random order in which the copies of a clip are equally far apart."""
    ordered, which_copy, copies = _number_copies(drawn)
    start = rng.random(ordered.max() + 1)[ordered]
    place = (start + which_copy / copies) % 1.0  # in [0, 1): the epoch from beginning to end
    return ordered[np.argsort(place)]


def _sort_by_length(drawn: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clips from long to short, then the second copies from short to long, and so on; ties in random order."""
    ordered, which_copy, _ = _number_copies(drawn)
    direction = np.where(which_copy % 2, 1, -1)
    return ordered[np.lexsort((rng.random(len(ordered)), direction * lengths[ordered], which_copy))]


def _number_copies(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clips in ascending order, and for each the number of its copy, from 0 on, and of all its copies."""
    ordered = np.sort(drawn)
    first = np.searchsorted(ordered, ordered, side="left")
    return ordered, np.arange(len(ordered)) - first, np.searchsorted(ordered, ordered, side="right") - first


__all__ = ["BalancedLengthSampler"]
