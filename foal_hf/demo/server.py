"""Serving the page: on this machine, to this machine, and with nothing loaded from elsewhere."""

import asyncio
import json
from typing import Any

from .uploads import Uploads


HOST = "127.0.0.1"

# The page is gradio's, which needs inline scripts. Everything else is loaded from this server, or not at all.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_FORM_BYTES = 64 * 1024  # what a form adds to the file in it


def launch(page: Any, uploads: Uploads, port: int | None, max_upload_bytes: int) -> str:
    """Start to serve a page, in its own threads.

    Args:
        page (`gradio.Blocks`): The page.
        uploads ([`Uploads`]): Takes the recordings.
        port (`int`, *optional*): The first free one from 7860 by default.
        max_upload_bytes (`int`): Larger recordings are refused.

    Returns:
        `str`: The address.

    Raises:
        OSError: If the port is taken.
    """
    import gradio
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    try:
        app, url, _ = page.launch(
            server_name=HOST,
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
            css=".gradio-container { max-width: 1240px !important; margin: 0 auto !important; }",
            app_kwargs={
                "middleware": [
                    # A foreign page that resolves another name to this machine must not count as the same site.
                    Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]),
                    Middleware(_OneUpload, uploads=uploads, max_bytes=max_upload_bytes + _FORM_BYTES),
                ]
            },
        )
    except OSError as error:
        ports = "Every port from 7860 to 7959" if port is None else f"Port {port}"
        raise OSError(f"{ports} of {HOST} is taken or forbidden. Choose another one with port= or --port.") from error
    # Around gradio's own middleware, which would allow every port of this machine, with credentials.
    app.middleware_stack = _OwnOrigin(app.middleware_stack or app.build_middleware_stack())
    return url


class _OwnOrigin:
    """Refuses requests of other origins, also of other local ports, and forbids the page to load from them."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", []))
        origin, own = headers.get(b"origin"), b"http://" + headers.get(b"host", b"")
        if origin is not None and origin.lower() != own.lower():
            await _refuse(403, f"The page takes no requests from {origin.decode('latin-1')}.", scope, receive, send)
            return

        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _POLICY.encode())
                message = {**message, "headers": [*message.get("headers", []), policy]}
            await send(message)

        await self._app(scope, receive, send_with_policy)


class _OneUpload:
    """Takes one recording per request, of a limited size, and hands it to [`Uploads`]."""

    def __init__(self, app: Any, uploads: Uploads, max_bytes: int):
        self._app, self._uploads, self._max_bytes = app, uploads, max_bytes
        self._lock = asyncio.Lock()
        self._num_running = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].endswith("/upload"):
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit() or int(length) > self._max_bytes:
            message = f"Expected a recording of a stated size, with its form at most {self._max_bytes} bytes."
            await _refuse(413, message, scope, receive, send)
            return
        answer: list[Any] = []
        has_lock = False

        async def receive_all() -> Any:
            # Gradio gives equal files the same path. From its last byte on, an upload is alone until it has been moved.
            nonlocal has_lock
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body") and not has_lock:
                has_lock = await self._lock.acquire()
            return message

        async def collect(message: Any) -> None:
            answer.append(message)

        self._num_running += 1
        try:
            await self._app(scope, receive_all, collect)
            start, body = answer[0], b"".join(message.get("body", b"") for message in answer[1:])
            if start["status"] == 200:
                paths = [self._uploads.add(path) for path in json.loads(body)]
                if len(paths) != 1:
                    for path in paths:
                        self._uploads.discard(path)
                    await _refuse(400, f"Expected one recording per request, got {len(paths)}.", scope, receive, send)
                    return
                body = json.dumps([str(path) for path in paths]).encode()
        finally:
            self._num_running -= 1
            if not self._num_running:
                self._uploads.discard_unfinished()
            if has_lock:
                self._lock.release()
        length = str(len(body)).encode()
        headers = [(name, length if name == b"content-length" else value) for name, value in start["headers"]]
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _refuse(status: int, message: str, scope: Any, receive: Any, send: Any) -> None:
    from starlette.responses import PlainTextResponse

    await PlainTextResponse(message, status)(scope, receive, send)


__all__ = ["HOST", "launch"]
