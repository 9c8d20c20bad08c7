"""The two auxiliary losses of Foal-Net as pure functions: alignment (AVEL) and label matching (MEM).

Shapes: `batch` clips, embeddings of width `embed_dim`. `pair_mask` is True where a clip has both sound and picture and
a known label; the other clips are left out of both losses, as rows and as columns.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


def similarity(queries: torch.Tensor, keys: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    r"""Scaled similarity of every query with every key.

        s[i, j] = q_i . k_j / t

    The temperature divides: it is learned as it stands and starts at ln(1/0.07), so there is no exponential
    (what the authors trained).

    Args:
        queries (`torch.Tensor` of shape `(batch, embed_dim)`): Unit length.
        keys (`torch.Tensor` of shape `(other_batch, embed_dim)`): Unit length.
        temperature (`torch.Tensor` of shape `()`): t.

    Returns:
        `torch.Tensor` of shape `(batch, other_batch)`, float32.
    """
    with torch.autocast(queries.device.type, enabled=False):  # half precision would blur the softmax over the batch
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
        labels (`torch.Tensor` of shape `(batch,)`): Class index of each clip.
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
    pair_mask = _all_true(labels) if pair_mask is None else pair_mask
    positives = (labels[:, None] == labels[None, :]) & pair_mask[:, None] & pair_mask[None, :]  # (batch, batch)
    total = audio_embeds.new_zeros((), dtype=torch.float32)
    for queries, keys in ((audio_embeds, video_embeds), (video_embeds, audio_embeds)):
        scores = similarity(queries, keys, temperature).masked_fill(~pair_mask[None, :], torch.finfo(torch.float32).min)
        total = total - scores.log_softmax(dim=1).masked_fill(~positives, 0.0).sum()
    return total / (2 * pair_mask.sum().clamp(min=1))


def negative_weights(
    scores: torch.Tensor, labels: torch.Tensor, pair_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""With what probability each other clip is drawn as the negative of a clip (MEM).

        w[i, j] = softmax of s[i, :] over the clips j whose label differs from that of i

    A clip without such a j has no negative: its row is uniform over the others, for callers that want the authors'
    behaviour, and it is False in the second result.

    Args:
        scores (`torch.Tensor` of shape `(batch, batch)`): Similarity of each clip (row) with each candidate (column).
        labels (`torch.Tensor` of shape `(batch,)`): Class index of each clip.
        pair_mask (`torch.Tensor` of shape `(batch,)`, bool, *optional*): True for clips that take part.

    Returns:
        The weights, `(batch, batch)`, rows sum to 1, and `has_negative`, `(batch,)`, bool.
    """
    pair_mask = _all_true(labels) if pair_mask is None else pair_mask
    allowed = (labels[:, None] != labels[None, :]) & pair_mask[:, None] & pair_mask[None, :]
    has_negative = allowed.any(dim=1)
    # Of a model that has broken, nothing can be drawn: let the loss say so, which is then NaN too.
    scores = scores.detach().float().nan_to_num().masked_fill(~allowed, -torch.inf)
    # A row of nothing but -inf would be NaN: it becomes a row of zeros, so uniform.
    scores = scores.masked_fill(~has_negative[:, None], 0.0)
    return scores.softmax(dim=1), has_negative


def sample_negatives(
    weights: torch.Tensor, *, hardest: bool = False, generator: torch.Generator | None = None
) -> torch.Tensor:
    r"""Pick one negative per clip from [`negative_weights`].

    Args:
        weights (`torch.Tensor` of shape `(batch, batch)`): Probabilities, rows sum to 1.
        hardest (`bool`): Take the most similar one instead of drawing, so that the result is repeatable.
        generator (`torch.Generator`, *optional*): Source of randomness; torch's own when left out.

    Returns:
        `torch.Tensor` of shape `(batch,)`: Index of the negative of each clip. No gradient flows through it.
    """
    if hardest:
        return weights.argmax(dim=1)
    return torch.multinomial(weights, num_samples=1, generator=generator).squeeze(1)


def matching_loss(
    audio_positive: torch.Tensor,
    audio_negative: torch.Tensor,
    video_positive: torch.Tensor,
    video_negative: torch.Tensor,
    row_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Do this audio and this video show the same emotion? (MEM).

        L = 1/2 (CE(audio-side logits) + CE(video-side logits))

    each cross entropy over the true pairs (class 1) and the pairs with a negative (class 0) together.

    Args:
        audio_positive, audio_negative (`torch.Tensor` of shape `(batch, 2)`):
            Logits of the audio-side head for (audio i, video i) and for (audio i, negative video).
        video_positive, video_negative (`torch.Tensor` of shape `(batch, 2)`):
            Logits of the video-side head for (video i, audio i) and for (video i, negative audio).
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
    """The batches of all ranks in rank order, so that every rank contrasts the whole batch.

    Every rank then computes the same loss. The gradient sums over ranks on the way back and DDP averages: together the
    gradient of one process with the whole batch.

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
    """Mean cross entropy in nats over the clips with a label; 0, not NaN, when every label is -100."""
    total = nn.functional.cross_entropy(logits.float(), labels, ignore_index=-100, reduction="sum")
    return total / (labels != -100).sum().clamp(min=1)


def _all_true(labels: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(labels, dtype=torch.bool)


__all__ = [
    "alignment_loss",
    "cross_entropy",
    "gather_over_ranks",
    "matching_loss",
    "negative_weights",
    "sample_negatives",
    "similarity",
]
