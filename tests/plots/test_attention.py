"""The figure of the cross-attention shows the weights of the model."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_models import tiny_batch, tiny_model

from foal_hf.plots import draw_cross_attention, plot_cross_attention


@torch.no_grad()
def test_the_maps_are_the_weights_of_the_last_layer_without_padding() -> None:
    output = tiny_model()(**tiny_batch(), output_attentions=True)
    figure = draw_cross_attention(output, clip=1, seconds=0.5, title="A clip")
    audio_axes, video_axes = (axes for axes in figure.axes if axes.images)
    frames, positions = int(output.video_mask[1].sum()), int(output.audio_mask[1].sum())
    assert 0 < frames < 7 and 0 < positions < 12
    for axes, weights in (
        (audio_axes, output.attentions[1][1, :, :positions, :frames]),
        (video_axes, output.attentions[3][1, :, :frames, :positions]),
    ):
        shown = torch.from_numpy(axes.images[0].get_array().data)
        torch.testing.assert_close(shown, weights.mean(0) * weights.shape[-1])
        torch.testing.assert_close(shown.mean(1), torch.ones(len(shown)))
        assert (*axes.get_xlim(), *axes.get_ylim()) == (0, 0.5, 0, 0.5)
    assert (audio_axes.get_xlabel(), audio_axes.get_ylabel()) == ("video (s)", "audio (s)")
    assert (video_axes.get_xlabel(), video_axes.get_ylabel()) == ("audio (s)", "video (s)")
    assert figure.get_suptitle() == "A clip"


@torch.no_grad()
def test_without_a_duration_the_axes_count_positions(tmp_path: Path) -> None:
    output = tiny_model()(**tiny_batch(), output_attentions=True)
    axes = draw_cross_attention(output).axes[0]
    assert (axes.get_xlim(), axes.get_ylim(), axes.get_xlabel()) == ((0, 7), (0, 12), "video (frames)")
    assert plot_cross_attention(output, tmp_path / "new" / "map.png").read_bytes()[1:4] == b"PNG"


@torch.no_grad()
def test_an_output_without_weights_or_a_clip_without_video_is_refused(tmp_path: Path) -> None:
    output = tiny_model()(**tiny_batch())
    with pytest.raises(ValueError, match="call the model with `output_attentions=True`"):
        draw_cross_attention(output)
    mask = torch.tensor([[1, 1]])
    for lacking, masks in (("video", (mask, mask * 0)), ("audio", (mask * 0, mask))):
        empty = SimpleNamespace(attentions=(mask,), audio_mask=masks[0], video_mask=masks[1])
        with pytest.raises(ValueError, match=f"Clip 0 lacks {lacking}; cross-attention needs both"):
            draw_cross_attention(empty)
    with pytest.raises(ValueError, match=r"ending in \.png"):
        plot_cross_attention(output, tmp_path / "map.txt")
