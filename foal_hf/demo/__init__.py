"""The page of `foal-hf demo`: give it a recording, and see what a checkpoint predicts over time.

The page is served on 127.0.0.1 only, and accepts requests of its own origin only. A recording is deleted from the
server right after the prediction; the browser plays its own copy, and the page itself contains the downloads. The
browser may load nothing from elsewhere. The checkpoint is loaded in the background while the page is already there.
"""

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from ..foal_net.timeline_foal_net import is_regression
from ..registration import load_pipeline
from .page import build_page, import_gradio
from .server import HOST, launch
from .uploads import Uploads


DEFAULT_MAX_UPLOAD_BYTES = 1024**3


@dataclass(frozen=True)
class Demo:
    """A served page.

    Args:
        url (`str`): Its address.
        uploads (`pathlib.Path`): The folder of the recordings; deleted with the page.
        model (`Future`): Gives the pipeline, or the error that loading it raised.
    """

    url: str
    uploads: Path
    model: "Future[Any]"

    def wait_for_interrupt(self) -> None:
        """Return at Ctrl-C, or when the process is asked to end, such as by closing its terminal. Main thread only.

        Raises:
            Exception: If the checkpoint could not be loaded.
        """
        ended = threading.Event()
        names = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.signal(number, lambda *_: ended.set()) for number in names}
        self.model.add_done_callback(lambda model: ended.set() if model.exception() else None)
        try:
            ended.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.model.done():
            self.model.result()


@contextlib.contextmanager
def serve_demo(
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    port: int | None = None,
    max_upload_bytes: int = DEFAULT_MAX_UPLOAD_BYTES,
) -> Iterator[Demo]:
    """Serve the page on 127.0.0.1 until the context ends. Then all recordings are deleted.

    Args:
        checkpoint (`str` or `os.PathLike`, *optional*): Folder or Hub name. Default: foal-net-small.
        device (`str`, *optional*): For the model: `"cpu"`, `"cuda"`, `"mps"`; the best available by default.
        port (`int`, *optional*): The first free one from 7860 by default.
        max_upload_bytes (`int`, defaults to 1 GiB): Larger recordings are refused.

    Yields:
        [`Demo`]: The page.

    Raises:
        ImportError: If gradio is not installed.
        OSError: If the port is taken.

    Example:

    ```python
    >>> with serve_demo("org/foal-net") as demo:
    ...     webbrowser.open(demo.url)
    ...     demo.wait_for_interrupt()
    ```
    """
    import_gradio()  # fail before anything else starts
    with _private_folder() as folder:
        model: Future[Any] = Future()
        uploads = Uploads(folder)
        page = build_page(model, uploads)
        try:
            url = launch(page, uploads, port, max_upload_bytes)
            # Not before the page is served: a process that ends while torch loads in a thread may abort.
            _load_in_background(model, checkpoint, device)
            yield Demo(url, folder, model)
        finally:
            page.close(verbose=False)


def _load_in_background(model: "Future[Any]", checkpoint: str | os.PathLike[str] | None, device: str | None) -> None:
    """In a daemon thread: Ctrl-C does not wait for a large checkpoint."""

    def load() -> None:
        try:
            classify = load_pipeline(checkpoint, device)
            if is_regression(classify.model.config):
                raise ValueError("The page shows emotions, but this checkpoint predicts numbers (regression).")
            model.set_result(classify)
        except Exception as error:
            model.set_exception(error)

    threading.Thread(target=load, name="load-checkpoint", daemon=True).start()


@contextlib.contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder for uploads that other users cannot read, and which gradio uses for all its files."""
    proxies = [os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), HOST]
    with tempfile.TemporaryDirectory(prefix="foal-hf-demo-") as folder:
        settings = {
            "GRADIO_TEMP_DIR": folder,
            "GRADIO_ANALYTICS_ENABLED": "False",
            "NO_PROXY": ",".join(filter(None, proxies)),  # gradio requests its own page
        }
        with mock.patch.dict(os.environ, settings):
            yield Path(folder)


__all__ = ["DEFAULT_MAX_UPLOAD_BYTES", "Demo", "serve_demo"]
