"""The pictures of results: what stands in them, that it can be read, and that equal results are equal files."""

import itertools
import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import get_data_path
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, FontProperties, findfont, fontManager, get_font
from matplotlib.image import imread
from matplotlib.text import Text

from foal_hf.metrics import emotion_metrics
from foal_hf.plots import (
    OKABE_ITO,
    draw_confusion_matrix,
    draw_timeline,
    plot_confusion_matrix,
    plot_timeline,
)
from foal_hf.plots.reliability import draw_reliability_diagram
from foal_hf.plots.style import _families_for, save


DRAW = {
    "matrix": lambda labels: draw_confusion_matrix([[3, 2], [5, 7]], labels),
    "timeline": lambda labels: draw_timeline([window(0.0, 2.0, 0.7, 0.3, labels=labels)], labels=labels),
}
LABELS = ["happy", "neutral", "sad", "angry"]
MATRIX = np.array([[131, 9, 4, 3], [12, 118, 20, 2], [3, 17, 90, 1], [6, 2, 0, 97]])
NO_SAD_CLIPS = MATRIX * [[1], [1], [0], [1]]


def window(start_seconds: float, end_seconds: float, *scores: float, labels: list[str] = LABELS) -> dict[str, Any]:
    return {
        "start_seconds": start_seconds,
        "end_seconds": end_seconds,
        "scores": dict(zip(labels, scores, strict=True)),
    }


SEGMENTS = [
    window(0.0, 2.0, 0.7, 0.1, 0.1, 0.1),
    window(1.0, 3.0, 0.6, 0.2, 0.1, 0.1),
    window(2.0, 4.0, 0.1, 0.2, 0.6, 0.1),
    window(7.0, 9.0, 0.0, 0.0, 0.0, 1.0),
]


def shown_texts(figure: Figure) -> list[Text]:
    """Every text that is drawn, tick labels and legend included, after the layout has been made."""
    FigureCanvasAgg(figure).draw()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in shown_texts(figure)]


def luminance(colour: Any) -> float:
    """Relative luminance as in WCAG 2."""
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(one: Any, other: Any) -> float:
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def blocks(figure: Figure) -> list[tuple[float, float, float, str]]:
    """The blocks of the strips as (row, start, end, colour), row 0 on top."""
    return [
        (bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_x() + bar.get_width(), to_hex(bar.get_facecolor()))
        for bar in figure.axes[1].patches
    ]


def colour_of(label: str) -> str:
    return OKABE_ITO[LABELS.index(label)].lower()


def png_chunks(path: Path) -> set[bytes]:
    content, position, names = path.read_bytes(), 8, set()
    while position < len(content):
        length, name = struct.unpack(">I4s", content[position : position + 8])
        names.add(name)
        position += length + 12
    return names


# The confusion matrix


def test_each_cell_shows_its_count_and_its_share_of_the_true_class() -> None:
    figure = draw_confusion_matrix(MATRIX, LABELS)
    cells: dict[tuple[int, int], list[str]] = {}
    for text in figure.axes[0].texts:
        column, row = text.get_position()
        if text.get_transform() == figure.axes[0].transData:
            cells.setdefault((round(row), round(column)), []).append(text.get_text())
    assert len(cells) == 16
    assert cells[0, 1] == ["6.1 %", "9"]  # 9 of 147 happy clips were taken for neutral
    assert cells[1, 0] == ["7.9 %", "12"]
    assert cells[3, 2] == ["0.0 %", "0"]


def test_the_confusion_matrix_names_its_axes_classes_and_accuracies() -> None:
    figure = draw_confusion_matrix(MATRIX, LABELS, title="Held-out speakers")
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "truth")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == LABELS
    assert [tick.get_text() for tick in axes.get_yticklabels()] == LABELS
    references, predictions = np.repeat(list(np.ndindex(4, 4)), MATRIX.ravel(), axis=0).T
    metrics = emotion_metrics(references, predictions, LABELS)
    ua, wa = 100 * metrics["unweighted_accuracy"], 100 * metrics["weighted_accuracy"]
    assert f"UA {ua:.1f} %, WA {wa:.1f} %, 515 clips" in words(figure)
    assert "Held-out speakers" in words(figure)


def test_a_class_without_clips_is_said_to_have_none() -> None:
    figure = draw_confusion_matrix(NO_SAD_CLIPS, LABELS)
    assert words(figure).count("no clips") == 1
    assert not any("nan" in word for word in words(figure))
    assert "UA 86.4 % (of 3 classes), WA 85.6 %, 404 clips" in words(figure)
    assert np.isfinite(figure.axes[0].images[0].get_array()).all()


def test_text_stands_out_from_every_shade() -> None:
    shares = np.arange(0, 101)
    for share in shares[shares % 7 == 0]:
        figure = draw_confusion_matrix([[share, 100 - share], [0, 1]], ["happy", "sad"])
        image = figure.axes[0].images[0]
        for text in figure.axes[0].texts[:2]:
            assert contrast(text.get_color(), image.to_rgba(image.get_array())[0, 0, :3]) >= 4.5


def test_shades_of_the_matrix_differ_in_lightness_alone_too() -> None:
    image = draw_confusion_matrix(MATRIX, LABELS).axes[0].images[0]
    lightness = [luminance(image.cmap(share)) for share in np.linspace(0, 1, 23)]
    assert all(lighter > darker for lighter, darker in itertools.pairwise(lightness))


@pytest.mark.parametrize("labels", [LABELS, ["low arousal voice", "in between", "high arousal voice", "whispered"]])
def test_nothing_in_the_matrix_is_cut_off(labels: list[str]) -> None:
    figure = draw_confusion_matrix(MATRIX, labels, title="Held-out speakers of the corpus")
    for text in shown_texts(figure):
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text


def test_only_long_names_are_slanted() -> None:
    short, long = (
        draw_confusion_matrix([[1, 0], [0, 1]], names) for names in (["sad", "surprised"], ["sad", "a" * 17])
    )
    assert {tick.get_rotation() for tick in short.axes[0].get_xticklabels()} == {0}
    assert all(tick.get_rotation() > 0 for tick in long.axes[0].get_xticklabels())
    shown_texts(short)
    left, right = (tick.get_window_extent() for tick in short.axes[0].get_xticklabels())
    assert left.x1 < right.x0


def test_cell_texts_stay_inside_their_cells() -> None:
    figure = draw_confusion_matrix(np.diag([12345] * 7), list("abcdefg"))
    cell_width = figure.axes[0].get_window_extent().width / 7 if shown_texts(figure) else 0
    widths = [
        text.get_window_extent().width for text in figure.axes[0].texts if text.get_text() in ("100.0 %", "12345")
    ]
    assert len(widths) == 14
    assert max(widths) < cell_width


def test_nested_lists_are_taken_as_emotion_metrics_gives_them() -> None:
    metrics = emotion_metrics([0, 0, 1], [0, 1, 1], ["happy", "sad"])
    assert "UA 75.0 %, WA 66.7 %, 3 clips" in words(
        draw_confusion_matrix(metrics["confusion_matrix"], ["happy", "sad"])
    )


@pytest.mark.parametrize(
    ("matrix", "labels", "message"),
    [
        (MATRIX, LABELS[:3], r"\(3, 3\) for these labels; got \(4, 4\)"),
        (MATRIX[:3], LABELS, r"got \(3, 4\)"),
        (MATRIX * 0, LABELS, "has no clips"),
        (MATRIX / MATRIX.sum(), LABELS, "integers of at least 0"),
        (-MATRIX, LABELS, "integers of at least 0"),
        (np.zeros((0, 0), dtype=int), [], "at least one name"),
        ([[1, 0], [0, 1]], ["sad", "sad"], "each only once"),
    ],
)
def test_a_matrix_that_cannot_be_drawn_is_refused(matrix, labels, message, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        plot_confusion_matrix(matrix, labels, tmp_path / "matrix.png")
    assert not any(tmp_path.iterdir())


# The timeline


def test_curves_stand_at_the_centres_of_the_windows_and_break_where_there_is_none() -> None:
    figure = draw_timeline(SEGMENTS, labels=LABELS)
    curves = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(curves) == LABELS
    np.testing.assert_array_equal(curves["sad"].get_xdata(), [1, 2, 3, math.nan, 8])
    np.testing.assert_array_equal(curves["sad"].get_ydata(), [0.1, 0.1, 0.6, math.nan, 0.0])
    bottom, top = figure.axes[0].get_ylim()
    assert bottom < 0 and top > 1  # so that a curve at 0 or 1 is not cut in half


def test_windows_that_touch_leave_no_gap() -> None:
    segments = [window(0.1 * i, 0.1 * (i + 1), 1.0, 0.0, 0.0, 0.0) for i in range(13)]
    figure = draw_timeline(segments, labels=LABELS)
    assert np.isfinite(figure.axes[0].get_lines()[0].get_xdata()).all()
    assert len(blocks(figure)) == 1


def test_a_long_window_bridges_the_gap_between_short_ones() -> None:
    segments = [window(*times, 1, 0, 0, 0) for times in [(0.0, 10.0), (5.2, 5.4), (7.0, 8.0)]]
    assert np.isfinite(draw_timeline(segments, labels=LABELS).axes[0].get_lines()[0].get_xdata()).all()


def test_the_strip_parts_overlapping_windows_halfway_and_joins_equal_neighbours() -> None:
    figure = draw_timeline(SEGMENTS, labels=LABELS)
    assert blocks(figure) == [
        (0, 0.0, 2.5, colour_of("happy")),
        (0, 2.5, 4.0, colour_of("sad")),
        (0, 7.0, 9.0, colour_of("angry")),
    ]
    assert [text.get_text() for text in figure.axes[1].texts] == ["happy", "sad", "angry"]


def test_the_order_of_the_windows_does_not_matter(tmp_path: Path) -> None:
    plot_timeline(SEGMENTS, tmp_path / "in_order.png", labels=LABELS)
    plot_timeline(SEGMENTS[::-1], tmp_path / "reversed.png", labels=LABELS)
    assert (tmp_path / "in_order.png").read_bytes() == (tmp_path / "reversed.png").read_bytes()


def test_the_truth_stands_above_the_prediction() -> None:
    figure = draw_timeline(SEGMENTS, labels=LABELS, truth=[(0.0, 3.0, "happy"), (3.0, 11.0, "sad")])
    axes = figure.axes[1]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["truth", "predicted"]
    assert axes.yaxis_inverted()
    assert blocks(figure)[:2] == [(0, 0.0, 3.0, colour_of("happy")), (0, 3.0, 11.0, colour_of("sad"))]
    assert {row for row, *_ in blocks(figure)[2:]} == {1}
    assert axes.get_xlim() == (0.0, 11.0)  # the truth may reach further than the windows
    assert figure.axes[0].get_xlim() == axes.get_xlim()


def test_a_true_label_that_the_model_does_not_know_is_grey_and_in_the_legend() -> None:
    known = draw_timeline(SEGMENTS, labels=LABELS, truth=[(0.0, 5.0, "sad")])
    unknown = draw_timeline(SEGMENTS, labels=LABELS, truth=[(0.0, 5.0, "frustrated")])
    assert blocks(unknown)[0][3] not in {colour.lower() for colour in OKABE_ITO}
    assert "frustrated" in words(unknown)
    assert "other" in words(unknown) and "other" not in words(known)


def test_title_note_and_axis_names_are_shown() -> None:
    figure = draw_timeline(SEGMENTS, labels=LABELS, title="A scene", note="generated voices and drawn faces")
    assert {"A scene", "generated voices and drawn faces", "probability", "seconds"} <= set(words(figure))
    note = next(text for text in shown_texts(figure) if text.get_text().startswith("generated"))
    assert note.get_window_extent().y1 < min(axes.get_tightbbox().y0 for axes in figure.axes)


def test_the_legend_names_every_emotion_outside_the_curves() -> None:
    figure = draw_timeline(SEGMENTS, labels=LABELS, truth=[(0.0, 9.0, "sad")])
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == LABELS
    shown_texts(figure)
    assert all(legend.get_window_extent().x0 > axes.get_window_extent().x1 for axes in figure.axes)


def test_no_text_of_the_timeline_is_cut_off() -> None:
    note = "generated voices and drawn faces, of which no statement about a real person follows; " * 3
    truth = [(0.0, 3.0, "frustrated")]
    figure = draw_timeline(SEGMENTS, labels=LABELS, truth=truth, title="A scene", note=note)
    for text in shown_texts(figure):
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text


def test_a_block_bears_its_name_where_there_is_room() -> None:
    edges = np.cumsum(np.arange(14) / 10)  # blocks of 0.1 s, 0.2 s and so on
    labels = ["mmm", "sad", "a long name that leaves the curves less room"]
    segments = [
        window(start, end, *np.roll([1.0, 0.0, 0.0], index), labels=labels)
        for index, (start, end) in enumerate(itertools.pairwise(edges))
    ]
    figure = draw_timeline(segments, labels=labels)
    shown_texts(figure)
    bars = [bar.get_window_extent() for bar in figure.axes[1].patches]
    names = {round(text.get_position()[0], 6): text for text in figure.axes[1].texts}
    named = []
    for bar, centre in zip(bars, (edges[1:] + edges[:-1]) / 2, strict=True):
        text = names.get(round(centre, 6))
        named.append(text is not None)
        if text is not None:
            box = text.get_window_extent()
            assert bar.x0 < box.x0 and box.x1 < bar.x1, text
    assert not any(named[:3])
    assert sum(named[-3:]) == 2  # the long name fits nowhere


def test_names_stand_out_from_their_blocks() -> None:
    labels = [f"c{i}" for i in range(8)]
    segments = [window(i, i + 1, *np.eye(8)[i], labels=labels) for i in range(8)]
    figure = draw_timeline(segments, labels=labels)
    assert len(figure.axes[1].texts) == 8
    for text, (_, _, _, colour) in zip(figure.axes[1].texts, blocks(figure), strict=True):
        assert contrast(text.get_color(), colour) >= 4.5


def test_more_emotions_than_colours_still_differ() -> None:
    labels = [f"c{i}" for i in range(11)]
    segments = [window(i, i + 1, *np.eye(11)[i], labels=labels) for i in range(11)]
    figure = draw_timeline(segments, labels=labels)
    assert len({(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}) == 11
    assert len({(to_hex(bar.get_facecolor()), bar.get_hatch()) for bar in figure.axes[1].patches}) == 11


@pytest.mark.parametrize(
    ("segments", "truth", "message"),
    [
        ([], None, "`segments` is empty"),
        ([{"start_seconds": 0.0, "scores": {}}], None, "Window 0 of `segments` has no end_seconds"),
        ([SEGMENTS[0], window(2.0, 2.0, 1, 0, 0, 0)], None, r"Window 1 .* end after it starts.*2\.0 to 2\.0"),
        ([window(0.0, math.nan, 1, 0, 0, 0)], None, "0.0 to nan"),
        ([window(0.0, 1.0, 0.5, 0.5, labels=LABELS[:2])], None, "scores of window 0 must map each of"),
        ([window(0.0, 1.0, 1, 0, 0, 0) | {"scores": [1, 0, 0, 0]}], None, "scores of window 0 must map each of"),
        ([SEGMENTS[0], window(2.0, 3.0, 3.1, -0.4, 0, 0)], None, "window 1 has .*softmax"),
        ([window(2.0, 3.0, math.nan, 0, 0, 0)], None, "window 0 has"),
        (SEGMENTS, [(0.0, 1.0, "sad"), (3.0, 2.0, "sad")], "Entry 1 of `truth`"),
    ],
)
def test_windows_that_make_no_sense_are_refused(segments, truth, message, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        plot_timeline(segments, tmp_path / "timeline.png", labels=LABELS, truth=truth)
    assert not any(tmp_path.iterdir())


# Both, as files


def plot_either(kind: str, path: Path) -> Path:
    if kind == "matrix":
        return plot_confusion_matrix(MATRIX, LABELS, path, title="Held-out speakers")
    return plot_timeline(SEGMENTS, path, labels=LABELS, truth=[(0.0, 9.0, "neutral")])


def own_fonts() -> list[FontEntry]:
    """The fonts that come with matplotlib, on every machine the same. None has Chinese characters."""
    return [font for font in fontManager.ttflist if font.fname.startswith(get_data_path())]


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without further fonts."""
    monkeypatch.setattr(fontManager, "ttflist", own_fonts())
    _families_for.cache_clear()
    yield
    _families_for.cache_clear()


@pytest.mark.parametrize("kind", ["matrix", "timeline"])
def test_characters_come_from_a_font_that_has_them(kind: str, tmp_path: Path, fonts: None) -> None:
    (stix,) = [f.fname for f in own_fonts() if (f.name, f.style, f.weight) == ("STIXGeneral", "normal", 400)]
    rare = chr(min(set(get_font(stix).get_charmap()) - set(get_font(findfont(FontProperties())).get_charmap())))
    figure = DRAW[kind](["happy", f"{rare}{rare}"])
    (label, *_) = [text for text in shown_texts(figure) if text.get_text() == f"{rare}{rare}"]
    assert label.get_fontfamily() == ["DejaVu Sans", "STIXGeneral"]
    save(figure, tmp_path / "figure.png")  # warnings are errors here


@pytest.mark.parametrize("kind", ["matrix", "timeline"])
def test_characters_that_no_font_has_are_reported_once_and_the_figure_is_written(
    kind: str, tmp_path: Path, fonts: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert save(DRAW[kind](["快乐", "悲伤"]), tmp_path / "figure.png").stat().st_size > 1000
    (record,) = caplog.records
    assert "No installed font has the characters '乐伤快悲' of the labels" in record.message
    assert "Noto Sans CJK" in record.message


def test_a_title_has_its_font_too(fonts: None, caplog: pytest.LogCaptureFixture) -> None:
    draw_reliability_diagram([0, 1], [[0.75, 0.25], [0.25, 0.75]], title="校准")
    assert "'准校'" in caplog.text


def test_the_picture_of_a_matrix_has_its_size_and_its_shades(tmp_path: Path) -> None:
    pixels = imread(plot_either("matrix", tmp_path / "matrix.png"))[..., :3]
    height, width, _ = pixels.shape
    assert 900 < width < 1300 and 900 < height < 1300
    dark, light = (pixels.mean(axis=2) < 0.5).mean(), (pixels.mean(axis=2) > 0.9).mean()
    assert 0.1 < dark < 0.3  # the diagonal: four of sixteen cells
    assert 0.4 < light < 0.9


def test_the_picture_of_a_timeline_shows_every_curve_and_block(tmp_path: Path) -> None:
    pixels = (imread(plot_either("timeline", tmp_path / "timeline.png"))[..., :3] * 255).round()
    height, width, _ = pixels.shape
    assert 1700 < width < 1900 and 600 < height < 900
    lower_part = pixels[int(0.6 * height) :]
    areas = {label: (lower_part == np.array(to_rgb(colour_of(label))) * 255).all(axis=2).mean() for label in LABELS}
    assert areas["neutral"] > areas["happy"] > areas["angry"] > areas["sad"] > 0.005


@pytest.mark.parametrize("kind", ["matrix", "timeline"])
def test_equal_results_are_equal_files_without_date_or_version(kind: str, tmp_path: Path) -> None:
    first, second = plot_either(kind, tmp_path / "first.png"), plot_either(kind, tmp_path / "second.png")
    assert first.read_bytes() == second.read_bytes()
    assert png_chunks(first) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


@pytest.mark.parametrize("kind", ["matrix", "timeline"])
@pytest.mark.parametrize(("name", "start"), [("a.pdf", b"%PDF"), ("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG")])
def test_the_ending_chooses_the_format_and_folders_are_made(kind: str, name: str, start: bytes, tmp_path: Path) -> None:
    path = plot_either(kind, tmp_path / "new" / "folder" / name)
    assert path == tmp_path / "new" / "folder" / name
    content = path.read_bytes()
    assert content.startswith(start)
    assert b"Date" not in content and b"dc:date" not in content


@pytest.mark.parametrize("kind", ["matrix", "timeline"])
@pytest.mark.parametrize("name", ["picture", "picture.jpg", "picture.png.txt"])
def test_another_ending_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ending in \.png, \.pdf, \.svg; got .*picture"):
        plot_either(kind, tmp_path / name)


@pytest.mark.parametrize("kind", ["matrix", "timeline"])
def test_pyplot_is_not_used(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now fails
    assert plot_either(kind, tmp_path / "picture.png").is_file()
