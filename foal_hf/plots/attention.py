"""The cross-attention of a clip: which frames of video each moment of audio uses, and the other way round."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import MARGIN_INCHES, checked_path, choose_fonts, save


if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_cross_attention(
    output: Any, path: str | PathLike[str], *, clip: int = 0, seconds: float | None = None, title: str | None = None
) -> Path:
    """Write the cross-attention of a clip as an image. See [`draw_cross_attention`].

    Args:
        output, clip, seconds, title: As in [`draw_cross_attention`].
        path: File to write, ending in .png, .pdf or .svg. Missing folders are created.

    Returns:
        `pathlib.Path`: The file.

    Raises:
        ValueError: If the format is unknown, or as in [`draw_cross_attention`].

    Example:
        ```python
        inputs = processor(videos="clip.mp4", load_audio_from_video=True)
        output = model(**inputs, output_attentions=True)
        plot_cross_attention(output, "cross_attention.png", seconds=3.2)
        ```
    """
    path = checked_path(path)
    return save(draw_cross_attention(output, clip=clip, seconds=seconds, title=title), path)


def draw_cross_attention(
    output: Any, *, clip: int = 0, seconds: float | None = None, title: str | None = None
) -> "Figure":
    """Draw the cross-attention of the last fusion layer, mean over its heads, in both directions.

    The rows of a map are queries. Each weight is relative to even attention: 1 where a query uses all columns equally.
    The colours span the range of the map, whose numbers are at its side. Padding is cut off.

    Args:
        output ([`FoalNetClassifierOutput`] or [`FoalNetModelOutput`]): With `output_attentions=True`.
        clip (`int`, defaults to 0): Which clip of the batch.
        seconds (`float`, *optional*): Duration of the clip, for axes in seconds instead of positions.
        title (`str`, *optional*): Above the maps.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        ValueError: If the output has no attention weights, or the clip lacks audio or video.
    """
    from matplotlib.figure import Figure

    if not output.attentions:
        raise ValueError("`output` has no attention weights; call the model with `output_attentions=True`.")
    audio, video = (np.asarray(mask[clip].cpu()).astype(bool) for mask in (output.audio_mask, output.video_mask))
    if not (audio.any() and video.any()):
        raise ValueError(f"Clip {clip} lacks {'video' if audio.any() else 'audio'}; cross-attention needs both.")
    half = len(output.attentions) // 2  # first all layers where audio queries video
    maps = [output.attentions[layer][clip].detach().float().mean(0).cpu().numpy() for layer in (half - 1, -1)]
    figure = Figure(figsize=(9.0, 4.2))
    figure.set_layout_engine("constrained", w_pad=MARGIN_INCHES, h_pad=MARGIN_INCHES)
    unit = "frames" if seconds is None else "s"
    sides = {"audio": audio, "video": video}
    for axes, weights, (queries, keys) in zip(
        figure.subplots(1, 2), maps, (("audio", "video"), ("video", "audio")), strict=True
    ):
        shown = weights[np.ix_(sides[queries], sides[keys])] * int(sides[keys].sum())
        rows, columns = shown.shape if seconds is None else (seconds, seconds)
        # One hue of increasing darkness: safe for every kind of colour vision, and in grey.
        image = axes.imshow(shown, cmap="Blues", aspect="auto", origin="lower", extent=(0, columns, 0, rows))
        figure.colorbar(image, ax=axes, shrink=0.8, label="weight (1: even)", format="%.3f")
        axes.set_xlabel(f"{keys} ({unit})")
        axes.set_ylabel(f"{queries} ({unit})")
        axes.set_title(f"{queries} attends to {keys}", fontsize=11)
    if title is not None:
        figure.suptitle(title, fontsize=13, fontweight="bold")
    choose_fonts(figure, [title])
    return figure


__all__ = ["draw_cross_attention", "plot_cross_attention"]
