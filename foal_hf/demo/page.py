"""The components of the page, and the prediction for a recording."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..default_checkpoint import DISTRIBUTION, installed_checkpoint
from ..foal_net.media_foal_net import MediaFile
from ..foal_net.recordings_foal_net import UNREADABLE
from .answer import TABLE_HEADERS, Answer, make_answer
from .uploads import Uploads


logger = logging.get_logger(__name__)

LIMITS = """
- The model predicts the emotion that people would **perceive**, not what a person feels. It makes errors, more for some
  groups of people than for others. Do not base decisions about a person on it.
- In the EU, inferring the emotions of people **at work or in education is prohibited** (AI Act, Regulation (EU)
  2024/1689, Article 5(1)(f); medical and safety reasons excepted).
- The people in the recordings **must be informed** (Article 50(3)), and have rights over their recordings.
- Recordings stay on this machine, and are deleted from the page's folder after the prediction.
"""
GENERATED_NOTE = (
    "This checkpoint was trained on generated voices and drawn faces only: its labels mean nothing on real people."
)

_MODALITIES = [("automatic", "auto"), ("audio and video", "both"), ("audio", "audio"), ("video", "video")]

_PLAYER = '<video id="foal-player" controls playsinline style="width: 100%; max-height: 340px" hidden></video>'
# The browser plays its own copy of the recording, so that the server can delete the upload after the prediction.
_PLAY = """
async (media, ...others) => {
  const player = document.querySelector("#foal-player");
  if (media) {
    URL.revokeObjectURL(player.src);
    player.src = URL.createObjectURL(await (await fetch(media.url)).blob());
    player.hidden = false;
  }
  return [media, ...others];
}
"""
_SEEK = '(seconds) => { document.querySelector("#foal-player").currentTime = seconds; }'


def import_gradio() -> Any:
    """The module.

    Raises:
        ImportError: If it is not installed, with the command that installs it.
    """
    try:
        import gradio
    except ImportError as error:
        how = "pip install 'foal-hf[demo]'"
        raise ImportError(f"The page needs gradio, which is not installed. Run {how}.") from error
    return gradio


def build_page(model: "Future[Any]", uploads: Uploads) -> Any:
    """The page as `gradio.Blocks`, not served yet.

    Args:
        model (`Future`): Gives the pipeline, or the error that loading it raised.
        uploads ([`Uploads`]): The recordings.
    """
    import gradio

    with gradio.Blocks(title="Foal-Net", analytics_enabled=False) as page:
        gradio.Markdown("# Emotion of a speaking person, from audio and video")
        gradio.Markdown(LIMITS, elem_id="foal-limits")
        status = gradio.Textbox("The page is loading.", label="Checkpoint", elem_id="foal-status")
        with gradio.Row():
            with gradio.Column(scale=2, min_width=340):
                inputs = _inputs(gradio)
                with gradio.Accordion("Settings for the next recording", open=False):
                    modality = gradio.Radio(_MODALITIES, value="auto", label="Predict from")
                    window = gradio.Slider(1, 20, value=6, step=0.5, label="Window length in seconds")
                    min_score = gradio.Slider(0, 1, value=0, step=0.05, label="Unsure below this score")
                label = gradio.Label(label="Emotion of the recording", elem_id="foal-label")
                about = gradio.Textbox(label="About the prediction", lines=8, max_lines=12, elem_id="foal-about")
                downloads = gradio.HTML(elem_id="foal-downloads")
            with gradio.Column(scale=3, min_width=340):
                gradio.HTML(_PLAYER)
                timeline = gradio.Plot(label="Emotions over time", show_label=False, elem_id="foal-timeline")
                table = gradio.Dataframe(
                    headers=list(TABLE_HEADERS),
                    interactive=False,
                    label="Segments, times in seconds (select one to play it)",
                    elem_id="foal-table",
                    buttons=[],
                    max_height=360,
                    column_widths=["13%", "12%", "16%", "12%", "25%", "22%"],
                    wrap=True,
                )
                seconds = gradio.Number(visible=False)

        def claim(path: str | None, request: gradio.Request) -> Any:
            if path is None:
                return gradio.skip()
            uploads.claim(path, request.session_hash)
            return f"{Path(path).name} is being read."

        def predict(
            path: str | None,
            modality: str,
            window: float,
            min_score: float,
            progress: Any = gradio.Progress(),  # noqa: B008
        ) -> Any:
            """Values of the outputs, and the emptied input."""
            if path is None:
                return [gradio.skip()] * 6
            uploads.claim(path)
            try:
                return [*predict_recording(model, path, modality, window, min_score, progress).values(), None]
            finally:
                uploads.discard(path)

        def discard_session(request: gradio.Request) -> None:
            uploads.discard_session(request.session_hash)

        def seek(selected: gradio.SelectData) -> float:
            return float(selected.row_value[0])

        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        for medium in inputs:
            gradio.on(
                [medium.upload, medium.stop_recording], claim, medium, about, js=_PLAY, queue=False, **quiet
            ).then(
                predict,
                [medium, modality, window, min_score],
                [label, about, timeline, table, downloads, medium],
                show_progress_on=timeline,
                api_visibility="private",
                concurrency_id="predict",
                concurrency_limit=1,
            )
        table.select(seek, None, seconds, queue=False, **quiet).then(None, seconds, None, js=_SEEK)
        page.load(lambda: (yield from _state_of(model)), None, status, **quiet)
        page.unload(discard_session)
    return page


def predict_recording(
    model: "Future[Any]",
    path: str,
    modality: str,
    window_seconds: float,
    min_score: float,
    progress: Callable[..., Any] = lambda *_, **__: None,
) -> Answer:
    """Predict the emotions in a recording. Errors are part of the answer: the page stays for the next recording.

    Args:
        model (`Future`): Gives the pipeline.
        path (`str`): The recording.
        modality (`str`): As for the pipeline.
        window_seconds (`float`): Length of a window. Each window starts half a window after the one before.
        min_score (`float`): Below this score the label is "unsure".
        progress (`Callable`): Gets the share that was read, or (seconds, seconds of all), and `desc`.
    """
    name = Path(path).name
    if not model.done():
        progress(None, desc="The model is being loaded")
    try:
        classify = model.result()
        with MediaFile(path, in_order=True) as media:  # the header is enough; the file is not read to its end
            duration_seconds = media.duration_seconds or None
        segments: list[dict[str, Any]] = []
        for segment in classify(
            path,
            modality=modality,
            window_seconds=window_seconds,
            stride_seconds=window_seconds / 2,
            min_score=min_score or None,
            stream=True,
        ):
            segments.append(segment)
            seconds = round(segment["end_seconds"])
            if duration_seconds is None:
                progress(None, desc=f"{name}: {seconds} s read")
            else:
                progress((seconds, round(duration_seconds)), desc=name, unit="s")
        labels = list(classify.model.config.id2label.values())
        return make_answer(segments, labels, name=name, modality=modality, min_score=min_score or None)
    except Exception as error:
        if not isinstance(error, (*UNREADABLE, ImportError)):
            logger.exception("The prediction failed.")
        # Users know their recording by its name, not by the folder of the upload.
        return Answer(label="no prediction", about=f"The prediction failed. {str(error).replace(path, name)}")


def _inputs(gradio: Any) -> tuple[Any, Any]:
    with gradio.Tab("Video"):
        video = gradio.Video(
            sources=["upload", "webcam"],
            label="A video file, or your camera",
            height=270,
            elem_id="foal-video",
            buttons=[],
            include_audio=True,
            webcam_options=gradio.WebcamOptions(mirror=False),
        )
    with gradio.Tab("Audio"):
        audio = gradio.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="An audio file, or your microphone",
            editable=False,
            buttons=[],
            elem_id="foal-audio",
        )
    return video, audio


def _state_of(model: "Future[Any]") -> Iterator[str]:
    if not model.done():
        yield "The model is being loaded. You can already give a recording."
    try:
        config = model.result().model.config
    except Exception as error:
        yield f"The checkpoint could not be loaded. {error}"
        return
    name = config._name_or_path or "the checkpoint"
    if Path(name) == installed_checkpoint():
        name = DISTRIBUTION
    note = f" {GENERATED_NOTE}" if getattr(config, "trained_on_generated_data", False) else ""
    yield f"Ready: {name} predicts {', '.join(config.id2label.values())}.{note}"


__all__ = ["build_page", "import_gradio", "predict_recording"]
