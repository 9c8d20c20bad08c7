"""The auxiliary losses, against values worked out by hand and in batches that have nothing to contrast."""

import math
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from foal_hf.foal_net.losses_foal_net import (
    alignment_loss,
    cross_entropy,
    gather_over_ranks,
    matching_loss,
    negative_weights,
    sample_negatives,
)


ONE = torch.tensor(1.0)


def unit_rows(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=generator), dim=-1)


def test_alignment_loss_of_two_orthogonal_clips_is_the_hand_value() -> None:
    embeds = torch.eye(2)
    # Each row of similarities is (1, 0) and its own clip is the only positive: -log(e / (e + 1)).
    expected = math.log(1 + math.exp(-1))
    loss = alignment_loss(embeds, embeds, torch.tensor([0, 1]), ONE)
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_alignment_loss_sums_over_positives_without_dividing() -> None:
    embeds = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    # All similarities are equal, so every log softmax is -log 3 and every clip has three positives.
    loss = alignment_loss(embeds, embeds, torch.tensor([4, 4, 4]), ONE)
    torch.testing.assert_close(loss, torch.tensor(3 * math.log(3)))


def test_temperature_divides_the_similarities() -> None:
    audio, video, labels = unit_rows(5, 7), unit_rows(5, 7, seed=1), torch.tensor([0, 1, 1, 2, 0])
    halved = alignment_loss(audio * 0.5, video, labels, ONE)
    torch.testing.assert_close(alignment_loss(audio, video, labels, torch.tensor(2.0)), halved)


def test_alignment_loss_ignores_clips_outside_the_pair_mask() -> None:
    audio, video, labels = unit_rows(5, 7), unit_rows(5, 7, seed=1), torch.tensor([0, 1, 1, 2, 0])
    keep = torch.tensor([True, True, False, True, False])
    expected = alignment_loss(audio[keep], video[keep], labels[keep], ONE)
    torch.testing.assert_close(alignment_loss(audio, video, labels, ONE, keep), expected)


def test_alignment_loss_refuses_different_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(5, 7\) and \(3, 7\)"):
        alignment_loss(unit_rows(5, 7), unit_rows(3, 7), torch.zeros(5).long(), ONE)


@pytest.mark.parametrize("labels", [[3], [1, 1, 1], [0, 1, 2, 3, 4]], ids=["one clip", "one class", "own classes"])
def test_losses_and_gradients_of_degenerate_batches_are_finite(labels: list[int]) -> None:
    label = torch.tensor(labels)
    audio = unit_rows(len(labels), 7).requires_grad_()
    video = unit_rows(len(labels), 7, seed=1).requires_grad_()
    loss = alignment_loss(audio, video, label, ONE)
    loss.backward()
    assert loss.isfinite() and audio.grad.isfinite().all() and video.grad.isfinite().all()


def test_alignment_loss_of_no_pair_is_zero_with_zero_gradient() -> None:
    audio = unit_rows(3, 7).requires_grad_()
    loss = alignment_loss(audio, unit_rows(3, 7, seed=1), torch.tensor([0, 1, 2]), ONE, torch.zeros(3).bool())
    loss.backward()
    assert loss == 0 and not audio.grad.any()


def test_negatives_always_have_another_label() -> None:
    labels = torch.tensor([0, 1, 1, 2, 0, 2, 2])
    weights, has_negative = negative_weights(torch.randn(7, 7), labels)
    generator = torch.Generator().manual_seed(0)
    assert has_negative.all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(7))
    for _ in range(50):
        assert (labels[sample_negatives(weights, generator=generator)] != labels).all()


def test_similar_negatives_are_drawn_in_proportion_to_the_softmax() -> None:
    labels = torch.tensor([0, 1, 1])
    scores = torch.tensor([[9.0, math.log(3.0), 0.0], [0.0, 9.0, 9.0], [0.0, 9.0, 9.0]])
    weights, _ = negative_weights(scores, labels)
    torch.testing.assert_close(weights[0], torch.tensor([0.0, 0.75, 0.25]))


def test_hardest_negative_is_the_most_similar_of_another_label() -> None:
    labels = torch.tensor([0, 0, 1, 2])
    scores = torch.tensor([[9.0, 8.0, 1.0, 2.0]] * 4)
    weights, _ = negative_weights(scores, labels)
    assert sample_negatives(weights, hardest=True).tolist() == [3, 3, 0, 0]


def test_no_gradient_flows_through_the_drawing() -> None:
    scores = torch.randn(3, 3, requires_grad=True)
    weights, _ = negative_weights(scores, torch.tensor([0, 1, 2]))
    assert not weights.requires_grad


def test_a_clip_without_another_label_has_no_negative() -> None:
    weights, has_negative = negative_weights(torch.randn(3, 3), torch.tensor([1, 1, 1]))
    assert not has_negative.any() and weights.isfinite().all()
    _, partly = negative_weights(torch.randn(3, 3), torch.tensor([1, 1, 0]), torch.tensor([True, True, False]))
    assert not partly.any()


def test_matching_loss_of_undecided_heads_is_log_two() -> None:
    undecided = torch.zeros(5, 2)
    loss = matching_loss(undecided, undecided, undecided, undecided)
    torch.testing.assert_close(loss, torch.tensor(math.log(2)))


def test_matching_loss_wants_class_one_for_true_pairs() -> None:
    different, same = torch.tensor([[9.0, -9.0]]), torch.tensor([[-9.0, 9.0]])
    assert matching_loss(same, different, same, different) < 1e-6
    assert matching_loss(different, same, different, same) > 17


def test_matching_loss_counts_only_rows_with_a_negative() -> None:
    logits = [torch.randn(5, 2) for _ in range(4)]
    keep = torch.tensor([True, False, True, False, False])
    torch.testing.assert_close(matching_loss(*logits, row_mask=keep), matching_loss(*(x[keep] for x in logits)))
    assert matching_loss(*logits, row_mask=torch.zeros(5).bool()) == 0


def test_cross_entropy_leaves_out_unknown_labels() -> None:
    logits = torch.randn(3, 4)
    torch.testing.assert_close(
        cross_entropy(logits, torch.tensor([1, -100, 2])),
        torch.nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([1, 2])),
    )
    assert cross_entropy(logits, torch.full((3,), -100)) == 0


def test_the_loss_of_one_known_label_is_its_own() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [5.0, 1.0]]), torch.tensor([1, -100])
    torch.testing.assert_close(cross_entropy(logits, labels), torch.tensor(math.log(1 + math.exp(2))))


def test_gathering_outside_a_distributed_run_changes_nothing() -> None:
    tensor = torch.randn(3, 2)
    assert gather_over_ranks(tensor) is tensor


def _rank(rank: int, folder: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    audio, video, labels = unit_rows(6, 7), unit_rows(6, 7, seed=1), torch.tensor([0, 1, 1, 2, 0, 1])
    mine = slice(3 * rank, 3 * rank + 3)
    local_audio, local_video = audio[mine].clone().requires_grad_(), video[mine].clone().requires_grad_()
    loss = alignment_loss(
        gather_over_ranks(local_audio), gather_over_ranks(local_video), gather_over_ranks(labels[mine]), ONE
    )
    loss.backward()
    # Without gradient the rows of the other rank are constants, and the own ones are not.
    constant = gather_over_ranks(local_audio, with_gradient=False)
    (own,) = torch.autograd.grad(constant.sum(), local_audio)
    assert constant.equal(audio) and own.equal(torch.ones(3, 7))
    # DDP averages gradients over ranks; for rows that live on one rank that is a division by the number of ranks.
    torch.save((loss.detach(), local_audio.grad / 2, local_video.grad / 2), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_give_the_loss_and_gradient_of_the_whole_batch(tmp_path) -> None:
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    audio, video = unit_rows(6, 7).requires_grad_(), unit_rows(6, 7, seed=1).requires_grad_()
    loss = alignment_loss(audio, video, torch.tensor([0, 1, 1, 2, 0, 1]), ONE)
    loss.backward()
    for result in results:
        torch.testing.assert_close(result[0], loss.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat([r[1] for r in results]), audio.grad, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat([r[2] for r in results]), video.grad, atol=1e-5, rtol=0)


def test_without_another_label_the_negative_is_one_of_the_other_pairs() -> None:
    labels = torch.tensor([1, 1, 1, 1, 0])
    pairs = torch.tensor([True, True, True, False, False])  # the clip of label 0 is no pair
    weights, has_negative = negative_weights(torch.randn(5, 5), labels, pairs, needs_other_label=False)
    third = [[0.0, 0.5, 0.5, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0, 0.0]]
    torch.testing.assert_close(weights[:3], torch.tensor(third))
    assert has_negative.tolist() == [True, True, True, False, False]


def test_only_clips_without_another_label_are_drawn_from_their_own() -> None:
    labels, scores = torch.tensor([0, 1, 1]), torch.zeros(3, 3)
    either, has_negative = negative_weights(scores, labels, needs_other_label=False)
    assert has_negative.all() and either.equal(negative_weights(scores, labels)[0])


def test_whether_a_clip_has_another_label_is_asked_clip_by_clip() -> None:
    shared = torch.tensor([[True, True, True], [True, True, False], [True, False, True]])  # clip 0 shares with all
    weights, has_negative = negative_weights(torch.randn(3, 3), shared, needs_other_label=False)
    assert weights.tolist() == [[0.0, 0.5, 0.5], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]] and has_negative.all()


def test_one_clip_without_a_mask_has_no_negative() -> None:
    weights, has_negative = negative_weights(torch.zeros(1, 1), torch.tensor([3]))
    assert weights.tolist() == [[1.0]] and has_negative.tolist() == [False]


@pytest.mark.parametrize("needs_other_label", [True, False])
def test_the_only_pair_of_a_batch_has_no_negative_but_can_be_drawn(needs_other_label: bool) -> None:
    arguments = torch.randn(3, 3), torch.tensor([1, 1, 0]), torch.tensor([False, True, False])
    weights, has_negative = negative_weights(*arguments, needs_other_label=needs_other_label)
    assert not has_negative.any() and weights.equal(torch.eye(3))
    assert sample_negatives(weights).tolist() == [0, 1, 2]


def test_negatives_are_drawn_as_by_torch_multinomial() -> None:
    weights = torch.rand(7, 7, generator=torch.Generator().manual_seed(2)).masked_fill(torch.eye(7).bool(), 0.0)
    ours, theirs = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    for _ in range(20):
        expected = torch.multinomial(weights, 1, generator=theirs).squeeze(1)
        assert sample_negatives(weights, generator=ours).equal(expected)
