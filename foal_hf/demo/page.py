"""What stands on the page, and what happens when it is given a recording."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..foal_net.media_foal_net import MediaFile
from ..foal_net.recordings_foal_net import UNREADABLE
from ..registration import TINY_CHECKPOINT
from .answer import render_answer, render_error, render_note, render_progress, render_table, render_timeline
from .look import PLAYER, SHOW_MEDIA


logger = logging.get_logger(__name__)

LIMITS = (
    "It names the emotion that people would <b>perceive</b>, not what somebody feels. It errs, and more for some "
    "groups of people than for others. Decide nothing about a person by it.",
    "In the EU, inferring the emotions of people <b>at work or in education is prohibited</b> (AI Act, Regulation "
    "(EU) 2024/1689, Article 5(1)(f); medical and safety reasons excepted).",
    "People whose recordings are judged <b>have to be told</b> (Article 50(3)), and have rights over them.",
    "Recordings stay on this machine, and are deleted from the page's folder once they were judged.",
)
GENERATED_NOTE = (
    "This checkpoint was trained on generated voices and drawn faces only: its labels mean nothing on real people."
)

_SECONDS_BETWEEN_UPDATES = 0.5
_SWEEP_SECONDS, _ABANDONED_SECONDS = 60, 3600  # an upload that nobody had judged, since its page was closed
_MODALITIES = [
    ("what carries anything", "auto"),
    ("sound and picture", "both"),
    ("sound", "audio"),
    ("picture", "video"),
]


def import_gradio() -> Any:
    """The module.

    Raises:
        ImportError: If it is not installed, with how to get it.
    """
    try:
        import gradio
    except ImportError as error:
        how = "pip install 'foal-hf[demo]'"
        raise ImportError(f"The page is made with gradio, which is not installed: {how}.") from error
    return gradio


def build_page(model: "Future[Any]", folder: Path) -> Any:
    """The page as `gradio.Blocks`, not served yet.

    Args:
        model (`Future`): Gives the pipeline, or the error that came of loading it.
        folder (`pathlib.Path`): Of the uploads; nothing outside it is deleted.
    """
    gradio = import_gradio()
    with gradio.Blocks(
        title="Foal-Net", analytics_enabled=False, delete_cache=(_SWEEP_SECONDS, _ABANDONED_SECONDS)
    ) as page:
        gradio.HTML("<h1>Emotion of a speaking person, from sound and picture</h1>")
        gradio.HTML(f'<div class="foal-notice"><ul>{"".join(f"<li>{limit}</li>" for limit in LIMITS)}</ul></div>')
        status = gradio.HTML(render_note("The page is being set up."), elem_id="foal-status")
        with gradio.Row():
            with gradio.Column(scale=2, min_width=340):
                film, sound = _inputs(gradio)
                with gradio.Accordion("Settings, for the next recording", open=False):
                    modality = gradio.Radio(_MODALITIES, value="auto", label="Judge by")
                    window = gradio.Slider(1, 20, value=6, step=0.5, label="Length of a window, in seconds")
                    least = gradio.Slider(0, 1, value=0, step=0.05, label="Unsure below this score")
                answer = gradio.HTML(render_note("The answer will stand here."), elem_id="foal-answer")
            with gradio.Column(scale=3, min_width=340):
                gradio.HTML(PLAYER)
                timeline = gradio.HTML(elem_id="foal-timeline")
                table = gradio.HTML(elem_id="foal-table")

        def judge(path: str | None, *settings: Any) -> Iterator[tuple[Any, ...]]:
            """For each state of the answer what timeline, answer and table show, and the emptied input."""
            if path is None:  # it was emptied
                return
            with forgotten_afterwards(path, folder):
                for shown in judge_recording(model, path, *settings):
                    yield *shown, gradio.skip()
            yield gradio.skip(), gradio.skip(), gradio.skip(), None

        for medium in (film, sound):
            gradio.on(
                [medium.upload, medium.stop_recording],
                judge,
                inputs=[medium, modality, window, least],
                outputs=[timeline, answer, table, medium],
                js=SHOW_MEDIA,
                show_progress="hidden",
                api_visibility="private",
                concurrency_id="judge",
                concurrency_limit=1,
            )
        state = {"outputs": status, "show_progress": "hidden", "api_visibility": "private"}
        page.load(lambda: (yield from _state_of(model)), **state)
    return page


def judge_recording(
    model: "Future[Any]", path: str, modality: str, window_seconds: float, min_score: float
) -> Iterator[tuple[str, str, str]]:
    """Judge a recording, and say how far that is.

    Args:
        model (`Future`): Gives the pipeline.
        path (`str`): The recording.
        modality (`str`): As for the pipeline.
        window_seconds (`float`): Length of a window, of which every next begins half a window later.
        min_score (`float`): Below this an answer is "unsure".

    Yields:
        `tuple[str, str, str]`: HTML of timeline, answer and table; the last is the result, or says what went wrong.
    """
    name = Path(path).name
    if not model.done():
        yield "", render_note("The model is still being loaded; your recording waits."), ""
    try:
        classify = model.result()
        with MediaFile(path, in_order=True) as media:  # the header will do, and the file is not read through
            duration_seconds = media.duration_seconds
        segments: list[dict[str, Any]] = []
        yield "", render_progress(name, 0.0, duration_seconds), ""
        shown_at = time.monotonic()
        for segment in classify(
            path,
            modality=modality,
            window_seconds=window_seconds,
            stride_seconds=window_seconds / 2,
            min_score=min_score or None,
            stream=True,
        ):
            segments.append(segment)
            if time.monotonic() - shown_at >= _SECONDS_BETWEEN_UPDATES:
                yield "", render_progress(name, segment["end_seconds"], duration_seconds), ""
                shown_at = time.monotonic()
    except Exception as error:  # whatever it is, the page stays for the next recording
        if not isinstance(error, (*UNREADABLE, ImportError)):
            logger.exception("A recording could not be judged.")
        # People know their recording by its name, not by the folder that it was put into.
        yield "", render_error(f"That did not work. {str(error).replace(path, name)}"), ""
        return
    labels = list(classify.model.config.id2label.values())
    answer = render_answer(segments, labels, name=name, modality=modality, min_score=min_score or None)
    yield render_timeline(segments, labels), answer, render_table(segments)


@contextlib.contextmanager
def forgotten_afterwards(path: str | os.PathLike[str], folder: Path) -> Iterator[None]:
    """Delete an upload at the end, whatever happens; what does not lie in `folder` stays."""
    try:
        yield
    finally:
        folder = folder.resolve()
        if folder in (upload := Path(path).resolve()).parents:
            own = folder / upload.relative_to(folder).parts[0]  # gradio makes a folder for each
            shutil.rmtree(own) if own.is_dir() else own.unlink(missing_ok=True)


def _inputs(gradio: Any) -> tuple[Any, Any]:
    """Where a recording is given: a film or a sound."""
    with gradio.Tab("Film"):
        film = gradio.Video(
            sources=["upload", "webcam"],
            label="A film, or your camera",
            height=270,
            elem_id="foal-film",
            buttons=[],
            include_audio=True,
            webcam_options=gradio.WebcamOptions(mirror=False),
        )
    with gradio.Tab("Sound"):
        sound = gradio.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="A sound file, or your microphone",
            editable=False,
            buttons=[],
            elem_id="foal-sound",
        )
    return film, sound


def _state_of(model: "Future[Any]") -> Iterator[str]:
    if not model.done():
        yield render_note("The model is being loaded. You can give a recording now; it waits.")
    try:
        classify = model.result()
    except Exception as error:
        yield render_error(f"The checkpoint could not be loaded. {error}")
        return
    config = classify.model.config
    name = config._name_or_path or "the checkpoint"
    if Path(name) == TINY_CHECKPOINT:
        name = "the tiny checkpoint of the package"
    ready = render_note(f"Ready: {name} tells {', '.join(config.id2label.values())}.")
    yield ready + (render_error(GENERATED_NOTE) if getattr(config, "trained_on_generated_data", False) else "")


__all__ = ["build_page", "forgotten_afterwards", "import_gradio", "judge_recording"]
