"""The page of `foal-hf demo`: give it a recording, and see what a checkpoint says of it over time.

The page is served on 127.0.0.1 alone. A recording is deleted from the server as soon as it was judged; the browser plays
its own copy, and the downloads lie in the page. The browser is told to load nothing from anywhere else. The page stands
before the checkpoint does, which is loaded in the background.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from .demo_answer import render_answer, render_error, render_note, render_progress, render_table, render_timeline
from .demo_look import PLAYER, SCRIPT, SHOW_MEDIA, STYLE
from .media_foal_net import MediaFile
from .recordings_foal_net import UNREADABLE
from .registration import TASK, register


DEFAULT_MAX_UPLOAD_BYTES = 1024**3
LIMITS = (
    "It names the emotion that people would <b>perceive</b>, not what somebody feels. It errs, and more for some groups "
    "of people than for others. Decide nothing about a person by it.",
    "In the EU, inferring the emotions of people <b>at work or in education is prohibited</b> (AI Act, Regulation (EU) "
    "2024/1689, Article 5(1)(f); medical and safety reasons excepted).",
    "People whose recordings are judged <b>have to be told</b> (Article 50(3)), and have rights over them.",
    "Recordings stay on this machine, and are deleted from the page's folder once they were judged.",
)
GENERATED_NOTE = (
    "This checkpoint was trained on generated voices and drawn faces only: its labels mean nothing on real people."
)

_HOST = "127.0.0.1"
_HIDDEN = 'style="display:none"'
_SECONDS_BETWEEN_UPDATES = 0.5
_SWEEP_SECONDS, _ABANDONED_SECONDS = 60, 3600  # an upload that nobody had judged, since its page was closed
_MODALITIES = [("what carries anything", "auto"), ("sound and picture", "both"), ("sound", "audio"), ("picture", "video")]
# The page is gradio's, which needs scripts in the page. Whatever else it might want to load, it gets from here or not.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)

_Loading = Future[Any]


@contextlib.contextmanager
def serve_demo(
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    port: int | None = None,
    max_upload_bytes: int = DEFAULT_MAX_UPLOAD_BYTES,
) -> Iterator[str]:
    """Serve the page on 127.0.0.1 until the context ends; then nothing of the recordings is left.

    Args:
        checkpoint (`str` or `os.PathLike`, *optional*): Folder or Hub name. The tiny one that ships by default.
        device (`str`, *optional*): For the model: `"cpu"`, `"cuda"`, `"mps"`; what is there by default.
        port (`int`, *optional*): The first free one from 7860 on by default.
        max_upload_bytes (`int`, defaults to 1 GiB): Larger recordings are refused.

    Yields:
        `str`: Address of the page.

    Raises:
        ImportError: If gradio is not installed.
        OSError: If the port is taken.

    Example:

    ```python
    >>> with serve_demo("org/foal-net") as url:
    ...     webbrowser.open(url)
    ...     wait_for_interrupt()
    ```
    """
    with _private_folder() as folder:
        model = _load_in_background(checkpoint, device)
        page = build_page(model, folder)
        try:
            yield _launch(page, port, max_upload_bytes)
        finally:
            page.close(verbose=False)


def wait_for_interrupt() -> None:
    """Return at Ctrl-C, and where the process is told to end, as by the window of its terminal. Main thread only."""
    ended = threading.Event()
    names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in names}
    try:
        ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def build_page(model: "Future[Any]", folder: Path) -> Any:
    """The page as `gradio.Blocks`, not served yet.

    Args:
        model (`Future`): Gives the pipeline, or the error that came of loading it.
        folder (`pathlib.Path`): Of the uploads; nothing outside it is deleted.
    """
    gradio = _import_gradio()
    with gradio.Blocks(
        title="Foal-Net", analytics_enabled=False, delete_cache=(_SWEEP_SECONDS, _ABANDONED_SECONDS)
    ) as page:
        gradio.HTML("<h1>Emotion of a speaking person, from sound and picture</h1>")
        gradio.HTML(f'<div class="foal-notice"><ul>{"".join(f"<li>{limit}</li>" for limit in LIMITS)}</ul></div>')
        status = gradio.HTML(render_note("The page is being set up."), elem_id="foal-status")
        with gradio.Row():
            with gradio.Column(scale=3, min_width=340):
                with gradio.Tab("Film"):
                    film = gradio.Video(
                        sources=["upload", "webcam"], label="A film, or your camera", height=230, elem_id="foal-film",
                        buttons=[], include_audio=True,
                        webcam_options=gradio.WebcamOptions(mirror=False),
                    )
                with gradio.Tab("Sound"):
                    sound = gradio.Audio(
                        sources=["upload", "microphone"], type="filepath", label="A sound file, or your microphone",
                        editable=False, buttons=[], elem_id="foal-sound",
                    )
                with gradio.Accordion("Settings, for the next recording", open=False):
                    modality = gradio.Radio(_MODALITIES, value="auto", label="Judge by")
                    window = gradio.Slider(1, 20, value=6, step=0.5, label="Length of a window, in seconds")
                    least = gradio.Slider(0, 1, value=0, step=0.05, label="Unsure below this score")
                gradio.HTML(PLAYER)
                timeline = gradio.HTML(elem_id="foal-timeline")
            with gradio.Column(scale=2, min_width=340):
                answer = gradio.HTML(render_note("The answer will stand here."), elem_id="foal-answer")
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
        page.load(lambda: (yield from _state_of(model)), outputs=status, show_progress="hidden", api_visibility="private")
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
        with MediaFile(path) as media:
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
    except (*UNREADABLE, ImportError) as error:
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


def _state_of(model: "Future[Any]") -> Iterator[str]:
    if not model.done():
        yield render_note("The model is being loaded. You can give a recording now; it waits.")
    try:
        classify = model.result()
    except Exception as error:
        yield render_error(f"The checkpoint could not be loaded. {error}")
        return
    config = classify.model.config
    ready = render_note(f"Ready: {config._name_or_path or 'the checkpoint'} knows {', '.join(config.id2label.values())}.")
    yield ready + (render_error(GENERATED_NOTE) if getattr(config, "trained_on_generated_data", False) else "")


def _load_in_background(checkpoint: str | os.PathLike[str] | None, device: str | None) -> "Future[Any]":
    from transformers import pipeline

    register()
    load: Callable[..., Any] = pipeline
    with contextlib.ExitStack() as stack:
        executor = ThreadPoolExecutor(1, thread_name_prefix="load-checkpoint")
        stack.callback(executor.shutdown, wait=False)
        return executor.submit(load, TASK, model=None if checkpoint is None else os.fspath(checkpoint), device=device)


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder for uploads that nobody else can read, and that gradio takes for all its files."""
    proxies = [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), _HOST]
    with tempfile.TemporaryDirectory(prefix="foal-hf-demo-") as folder:
        settings = {
            "GRADIO_TEMP_DIR": folder,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "NO_PROXY": ",".join(filter(None, proxies)),  # gradio asks its own page whether it is there
        }
        with mock.patch.dict(os.environ, settings):
            yield Path(folder)


def _launch(page: Any, port: int | None, max_upload_bytes: int) -> str:
    """Start to serve, and give the address."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    gradio = _import_gradio()
    _, url, _ = page.launch(
        server_name=_HOST,
        server_port=port,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        show_error=True,
        max_file_size=max_upload_bytes,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=STYLE,
        head=f"<script>{SCRIPT}</script>",
        app_kwargs={
            "middleware": [
                # Another name for this machine in a foreign page must not make the browser take it for the same site.
                Middleware(TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"]),
                Middleware(_StayHere),
            ]
        },
    )
    return url


class _StayHere:
    """Tells the browser with every answer that the page may load from this server only."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _POLICY.encode())
                message = {**message, "headers": [*message.get("headers", []), policy]}
            await send(message)

        await self._app(scope, receive, send_with_policy)


def _import_gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise ImportError("The page is made with gradio, which is not installed: pip install 'foal-hf[demo]'.") from error
    return gradio


__all__ = ["build_page", "forgotten_afterwards", "judge_recording", "serve_demo", "wait_for_interrupt"]
