"""How the page is served: on this machine, to this machine, and with nothing from elsewhere in it."""

from typing import Any

from .look import SCRIPT, STYLE


HOST = "127.0.0.1"

# The page is gradio's, which needs scripts in the page. Whatever else it might want to load, it gets from here or not.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)


def launch(page: Any, port: int | None, max_upload_bytes: int) -> str:
    """Start to serve a page, in threads of its own.

    Args:
        page (`gradio.Blocks`): The page.
        port (`int`, *optional*): The first free one from 7860 on by default.
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
        _, url, _ = page.launch(
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
            css=STYLE,
            head=f"<script>{SCRIPT}</script>",
            app_kwargs={
                "middleware": [
                    # A foreign page under another name of this machine must not pass for the same site.
                    Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]),
                    Middleware(_StayHere),
                ]
            },
        )
    except OSError as error:
        ports = "Every port from 7860 to 7959" if port is None else f"Port {port}"
        raise OSError(f"{ports} of {HOST} is taken or forbidden. Choose another one with port= or --port.") from error
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


__all__ = ["HOST", "launch"]
