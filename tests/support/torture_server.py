"""A loopback server whose every answer is bad in its own way."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def bad_server() -> Iterator[str]:
    """Address of the server; `{address}/name` answers as the method `name` of the handler does."""
    released = threading.Event()  # what hangs, hangs until then

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):  # the client has gone
                getattr(self, self.path.split("?")[0].strip("/").partition(".")[0])()

        def answer(self, status: int = 200, body: bytes = b"", **headers: object) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def drip(self, data: bytes) -> None:
            """Byte by byte, each within the time that a read may take."""
            for byte in data:
                self.wfile.write(bytes([byte]))
                if released.wait(0.05):
                    return

        def slow_status(self) -> None:
            self.drip(b"HTTP/1.0 200 " + b"O" * 1000 + b"K\r\n\r\n")

        def slow_header(self) -> None:
            self.drip(b"HTTP/1.0 200 OK\r\nX-Long: " + b"a" * 1000)

        def slow_redirects(self) -> None:
            number = int(self.path.partition("?")[2] or 0)
            released.wait(0.1)
            self.answer(302, Location=f"/slow_redirects.mp4?{number + 1}")

        def gzip_of_nothing(self) -> None:
            self.answer(Content_Encoding="gzip")
            self.wfile.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
            while not released.wait(0.005):
                self.wfile.write(b"\0\0\0\xff\xff" * 1000)  # stored blocks of 0 bytes

        def zeros(self) -> None:
            while not released.wait(0.005):
                self.wfile.write(bytes(2**16))

        def missing(self) -> None:
            self.answer(404, b"<html>not here</html>")

        def broken(self) -> None:
            self.answer(500)

        def hangs(self) -> None:
            released.wait()

        def hangs_midway(self) -> None:
            self.answer(body=b"RIFF", Content_Length=100_000)
            released.wait()

        def terabyte(self) -> None:
            self.answer(Content_Length=10**12)
            self.zeros()

        def endless(self) -> None:
            self.answer()
            self.zeros()

        def lying(self) -> None:
            self.answer(body=bytes(100), Content_Length=1000)

        def nonsense(self) -> None:
            self.answer(Content_Length="many")

        def empty(self) -> None:
            self.answer(Content_Length=0)

        def circle(self) -> None:
            self.answer(302, Location="/circle.mp4")

        def to_a_file(self) -> None:
            self.answer(302, Location="file:///etc/hostname")

        def page(self) -> None:
            self.answer(body=b"<!DOCTYPE html><html>please log in</html>")

        def playlist(self) -> None:
            self.answer(body=b"#EXTM3U\n#EXTINF:3,\nhttp://127.0.0.1:9/secret.ts\n")

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            released.set()
            server.shutdown()
            thread.join()
