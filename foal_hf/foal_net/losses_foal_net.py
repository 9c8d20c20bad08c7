"""The two auxiliary losses of Foal-Net as pure functions: alignment (AVEL) and label matching (MEM).

Shapes: `batch` clips, embeddings of width `embed_dim`. `pair_mask` is True for a pair: a clip with both audio and video
and a known label. Both losses skip all other clips, as rows and as columns.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from transformers.utils.generic import maybe_autocast


def similarity(queries: torch.Tensor, keys: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    r"""Scaled similarity of every query with every key.

        s[i, j] = q_i . k_j / t

    The temperature divides the similarities. It is learned directly, without an exponential, and starts at ln(1/0.07),
    as in the authors' code.

    Args:
        queries (`torch.Tensor` of shape `(batch, embed_dim)`): Unit length.
        keys (`torch.Tensor` of shape `(other_batch, embed_dim)`): Unit length.
        temperature (`torch.Tensor` of shape `()`): t.

    Returns:
        `torch.Tensor` of shape `(batch, other_batch)`, float32.
    """
    with maybe_autocast(queries.device.type, enabled=False):  # half precision would blur the softmax over the batch
        return queries.float() @ keys.float().T / temperature.float()


def alignment_loss(
    audio_embeds: torch.Tensor,
    video_embeds: torch.Tensor,
    labels: torch.Tensor,
    temperature: torch.Tensor,
    pair_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Draw together the audio and video of clips that share an emotion (AVEL).

        L = -1/(2B) sum_i sum_{j in P(i)} (log softmax_j s_av[i,j] + log softmax_j s_va[i,j])

    with `s_av[i,j] = a_i . v_j / t`, `s_va[i,j] = v_i . a_j / t`, and P(i) all clips with the label of i, i included.
    The inner sum is not divided by |P(i)|.

    Args:
        audio_embeds (`torch.Tensor` of shape `(batch, embed_dim)`): a, pooled and projected audio, unit length.
        video_embeds (`torch.Tensor` of shape `(batch, embed_dim)`): v, pooled and projected video, unit length.
        labels (`torch.Tensor` of shape `(batch,)`, or `(batch, batch)`, bool): Class index of each clip, or which clips
            share an emotion (see [`shared_emotion`]).
        temperature (`torch.Tensor` of shape `()`): t.
        pair_mask (`torch.Tensor` of shape `(batch,)`, bool, *optional*): True for clips that take part.

    Returns:
        `torch.Tensor` of shape `()`: The loss in nats; 0 when no clip takes part.

    Raises:
        ValueError: If the two modalities differ in shape.
    """
    if audio_embeds.shape != video_embeds.shape:
        raise ValueError(
            "`audio_embeds` and `video_embeds` must hold the same clips at the same width, got shapes "
            f"{tuple(audio_embeds.shape)} and {tuple(video_embeds.shape)}."
        )
    same = _as_matrix(labels)
    pair_mask = _all_true(same[0]) if pair_mask is None else pair_mask
    positives = same & pair_mask[:, None] & pair_mask[None, :]  # (batch, batch)
    total = audio_embeds.new_zeros((), dtype=torch.float32)
    for queries, keys in ((audio_embeds, video_embeds), (video_embeds, audio_embeds)):
        scores = similarity(queries, keys, temperature).masked_fill(~pair_mask[None, :], torch.finfo(torch.float32).min)
        total = total - scores.log_softmax(dim=1).masked_fill(~positives, 0.0).sum()
    return total / (2 * pair_mask.sum().clamp(min=1))


def negative_weights(
    scores: torch.Tensor,
    labels: torch.Tensor,
    pair_mask: torch.Tensor | None = None,
    *,
    needs_other_label: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""The probability with which each clip is drawn as the negative of each other clip (MEM).

        w[i, j] = softmax of s[i, :] over the pairs j whose label differs from that of i

    A pair without such a j has no negative. The authors' code draws a clip of the same label there:
    `needs_other_label=False` does so too, uniformly over the other pairs. Where nothing is left to draw (the only pair
    of a batch, or a clip that is no pair), the row is 1 on the clip itself, so that drawing is defined, and the second
    result is False.

    Args:
        scores (`torch.Tensor` of shape `(batch, batch)`): Similarity of each clip (row) with each candidate (column).
        labels (`torch.Tensor` of shape `(batch,)`, or `(batch, batch)`, bool): Class index of each clip, or which clips
            share an emotion.
        pair_mask (`torch.Tensor` of shape `(batch,)`, bool, *optional*): True for pairs.
        needs_other_label (`bool`, defaults to `True`): Whether only a clip of another label is a negative.

    Returns:
        The weights, `(batch, batch)`, rows sum to 1, and `has_negative`, `(batch,)`, True for clips with a negative.
    """
    same = _as_matrix(labels)
    pair_mask = _all_true(same[0]) if pair_mask is None else pair_mask
    pairs = pair_mask[:, None] & pair_mask[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    allowed = pairs & ~same
    # A broken model has NaN similarities, from which nothing can be drawn: its loss is NaN too, and says so.
    scores = scores.detach().float().nan_to_num()
    if not needs_other_label:
        has_none = ~allowed.any(dim=1, keepdim=True)
        allowed = torch.where(has_none, pairs & ~itself, allowed)
        scores = scores.masked_fill(has_none, 0.0)
    has_negative = allowed.any(dim=1)
    allowed = torch.where(has_negative[:, None], allowed, itself)
    return scores.masked_fill(~allowed, -torch.inf).softmax(dim=1), has_negative


def sample_negatives(
    weights: torch.Tensor, *, hardest: bool = False, generator: torch.Generator | None = None
) -> torch.Tensor:
    r"""Draw one negative per clip with the probabilities of [`negative_weights`].

    Args:
        weights (`torch.Tensor` of shape `(batch, batch)`): Probabilities, rows sum to 1.
        hardest (`bool`): Take the most similar clip instead of drawing, so that the result is repeatable.
        generator (`torch.Generator`, *optional*): Source of randomness; torch's global one by default.

    Returns:
        `torch.Tensor` of shape `(batch,)`: Index of the negative of each clip. No gradient flows through it.
    """
    if hardest:
        return weights.argmax(dim=1)
    # What `torch.multinomial` does for one draw, without its check of the values, which waits for the device.
    return (weights / torch.empty_like(weights).exponential_(generator=generator)).argmax(dim=1)


def matching_loss(
    audio_positive: torch.Tensor,
    audio_negative: torch.Tensor,
    video_positive: torch.Tensor,
    video_negative: torch.Tensor,
    row_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Tell whether an audio and a video show the same emotion (MEM).

        L = 1/2 (CE(audio-side logits) + CE(video-side logits))

    Each cross entropy is the mean over the true pairs (class 1) and the pairs with a negative (class 0).

    Args:
        audio_positive, audio_negative (`torch.Tensor` of shape `(batch, 2)`):
            Logits of the audio-side head for (audio i, video i) and (audio i, negative video).
        video_positive, video_negative (`torch.Tensor` of shape `(batch, 2)`):
            Logits of the video-side head for (video i, audio i) and (video i, negative audio).
        row_mask (`torch.Tensor` of shape `(batch,)`, bool, *optional*): True for clips that have a negative.

    Returns:
        `torch.Tensor` of shape `()`: The loss in nats; 0 when no clip has a negative.
    """
    rows = audio_positive.shape[0]
    row_mask = audio_positive.new_ones(rows, dtype=torch.bool) if row_mask is None else row_mask
    target = torch.cat([row_mask.new_ones(rows), row_mask.new_zeros(rows)]).long()
    target = target.masked_fill(~row_mask.repeat(2), -100)
    total = audio_positive.new_zeros((), dtype=torch.float32)
    for positive, negative in ((audio_positive, audio_negative), (video_positive, video_negative)):
        logits = torch.cat([positive, negative]).float()  # (2 * batch, 2)
        total = total + F.cross_entropy(logits, target, ignore_index=-100, reduction="sum")
    return total / (2 * 2 * row_mask.sum()).clamp(min=1)


def gather_over_ranks(tensor: torch.Tensor, *, with_gradient: bool = True) -> torch.Tensor:
    """Gather the batches of all ranks in rank order, so that every rank contrasts the whole batch.

    Every rank then computes the same loss. The backward pass sums the gradients of all ranks and DDP averages them:
    together this is the gradient of one process with the whole batch.

    Args:
        tensor (`torch.Tensor` of shape `(batch, ...)`): The rows of this rank; the same shape on every rank.
        with_gradient (`bool`): Let gradients flow to the other ranks (the authors' code does not).

    Returns:
        `torch.Tensor` of shape `(ranks * batch, ...)`; `tensor` itself outside a distributed run.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return tensor
    if with_gradient and tensor.requires_grad:
        from torch.distributed.nn.functional import all_gather

        return torch.cat(all_gather(tensor.contiguous()))
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.detach().contiguous())
    parts[dist.get_rank()] = tensor
    return torch.cat(parts)


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy in nats over the clips with a label; 0 when every label is -100, where torch gives NaN."""
    total = nn.functional.cross_entropy(logits.float(), labels, ignore_index=-100, reduction="sum")
    return total / (labels != -100).sum().clamp(min=1)


def classification_loss(logits: torch.Tensor, labels: torch.Tensor, problem_type: str | None = None) -> torch.Tensor:
    r"""The loss of the task, over the clips with a known label (see [`known_labels`]).

    Args:
        logits (`torch.Tensor` of shape `(batch, num_labels)`): From the model.
        labels (`torch.Tensor`): `(batch,)` class indices, or `(batch, num_labels)` numbers.
        problem_type (`str`, *optional*): Cross entropy in nats for one class a clip, the default; for
            `"multi_label_classification"` the mean binary cross entropy in nats; for `"regression"` the mean squared
            error.

    Returns:
        `torch.Tensor` of shape `()`: The mean; 0 when no label is known, where torch gives NaN.
    """
    if problem_type in (None, "single_label_classification"):
        return cross_entropy(logits, labels)
    known = known_labels(labels, problem_type)
    labels = labels.float().masked_fill(~known[:, None], 0.0)
    loss = F.mse_loss if problem_type == "regression" else F.binary_cross_entropy_with_logits
    total = loss(logits.float(), labels, reduction="none").masked_fill(~known[:, None], 0.0).sum()
    return total / (known.sum() * labels.shape[1]).clamp(min=1)


def known_labels(labels: torch.Tensor, problem_type: str | None = None) -> torch.Tensor:
    """Which clips have a label, `(batch,)`, bool: not -100; none of several -100; in regression no NaN."""
    if problem_type == "regression":
        return labels.isfinite().all(dim=1)
    return labels != -100 if labels.ndim == 1 else (labels != -100).all(dim=1)


def shared_emotion(
    labels: torch.Tensor, problem_type: str | None = None, distance: float | None = None
) -> torch.Tensor | None:
    r"""Which clips share an emotion: the positives of AVEL; all other clips are the negatives of MEM.

    One class a clip, as in the paper: clips of the same class. Several classes a clip: clips with at least one class in
    common, so that a negative shares none, and clips without any class. Regression has no classes: clips whose labels
    differ by at most `distance` in every dimension; without a distance nothing is said of two clips.

    Args:
        labels (`torch.Tensor`): `(batch,)` class indices, or `(batch, num_labels)` numbers.
        problem_type (`str`, *optional*): As in the config.
        distance (`float`, *optional*): In units of the labels, at least 0; for regression only.

    Returns:
        `torch.Tensor` of shape `(batch, batch)`, bool, or None.
    """
    if problem_type == "regression":
        if distance is None:
            return None
        return (labels[:, None] - labels[None, :]).abs().amax(dim=2) <= distance
    if labels.ndim == 1:
        return labels[:, None] == labels[None, :]
    has_class = labels > 0.5
    is_empty = ~has_class.any(dim=1)
    return (has_class[:, None] & has_class[None, :]).any(dim=2) | (is_empty[:, None] & is_empty[None, :])


def _as_matrix(labels: torch.Tensor) -> torch.Tensor:
    return labels if labels.ndim == 2 else labels[:, None] == labels[None, :]


def _all_true(labels: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(labels, dtype=torch.bool)


__all__ = [
    "alignment_loss",
    "classification_loss",
    "cross_entropy",
    "gather_over_ranks",
    "known_labels",
    "matching_loss",
    "negative_weights",
    "sample_negatives",
    "shared_emotion",
    "similarity",
]
