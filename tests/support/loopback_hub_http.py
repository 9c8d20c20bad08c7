"""The sockets under the Hub on loopback: requests come in, fail where that was planned, are answered and noted."""

import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit


# When a connection is cut: in the middle of the request's body; with the request read and nothing done; with
# everything done and nothing said; in the middle of the answer's body.
CutAt = Literal["reading", "working", "answering", "sending"]


@dataclass(frozen=True)
class Seen:
    """A request as it is noted down. The token itself is not."""

    method: str
    path: str
    has_token: bool
    status: int | None  # None: the connection was cut


@dataclass
class Failure:
    """What is planned to go wrong."""

    status: int | None = None
    cut_at: CutAt | None = None
    times: int = 1
    method: str = ""
    path_contains: str = ""

    def meets(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in ("", method) and self.path_contains in path


@dataclass
class Request:
    """A request that has come in whole. `path` is still quoted: a slash in a branch's name is no separator."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    content: bytes

    @property
    def token(self) -> str | None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" else None


@dataclass
class Answer:
    """What is sent back."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """Ends the work on a request. `code` is what huggingface_hub chooses its exception by."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        headers |= {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.answer = json_answer({"error": message}, status, headers)


def json_answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    return Answer(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})


def file_answer(request: Request, content: bytes, etag: str, headers: dict[str, str] | None = None) -> Answer:
    """A file, a part of it, or the word that the client has it already."""
    headers = {"ETag": f'"{etag}"', "Accept-Ranges": "bytes", **(headers or {})}
    if etag in re.findall(r'"([^"]*)"', request.headers.get("If-None-Match", "")):
        return Answer(b"", 304, headers)
    span = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if span is None or not any(span.groups()):
        return Answer(bytes(content), 200, headers)
    start = int(span[1]) if span[1] else max(len(content) - int(span[2]), 0)
    end = min(int(span[2]) + 1, len(content)) if span[1] and span[2] else len(content)
    if start >= end:
        return Answer(b"", 416, {**headers, "Content-Range": f"bytes */{len(content)}"})
    return Answer(
        bytes(content[start:end]), 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
    )


class Traffic:
    """What was asked, and what is to go wrong. Shared by the servers of one Hub."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.seen: list[Seen] = []
        self.failures: list[Failure] = []

    def note(self, handler: BaseHTTPRequestHandler, status: int | None) -> None:
        with self.lock:
            has_token = "Authorization" in handler.headers
            self.seen.append(Seen(handler.command, handler.path, has_token, status))

    def next_failure(self, method: str, path: str) -> Failure | None:
        with self.lock:
            failure = next((failure for failure in self.failures if failure.meets(method, path)), None)
            if failure:
                failure.times -= 1
            return failure


def make_server(respond: Callable[[Request], Answer], traffic: Traffic) -> ThreadingHTTPServer:
    """A server on a free port of 127.0.0.1. `respond` runs in one thread at a time."""
    handler = type("Handler", (_Handler,), {"respond": staticmethod(respond), "traffic": traffic})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    respond: Callable[[Request], Answer]
    traffic: Traffic

    def log_message(self, *arguments: Any) -> None:
        """Nothing: tests are quiet."""

    def handle_any(self) -> None:
        failure = self.traffic.next_failure(self.command, self.path) or Failure()
        if failure.cut_at == "reading":
            self.rfile.read1(16)
            return self.hang_up()
        content = self.body()
        if failure.cut_at == "working":
            return self.hang_up()
        answer = self.work(content) if failure.status is None else _failed(failure.status)
        if failure.cut_at == "answering":
            return self.hang_up()
        self.traffic.note(self, answer.status)
        self.send(answer, stop_in_the_middle=failure.cut_at == "sending")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815  (http.server's names)

    def work(self, content: bytes) -> Answer:
        url = urlsplit(self.path)
        request = Request(self.command, url.path, parse_qs(url.query), self.headers, content)
        # Not while the answer is sent: a client may leave one unread and ask for something else.
        with self.traffic.lock:
            try:
                return self.respond(request)
            except RefusedError as refused:
                return refused.answer

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def send(self, answer: Answer, *, stop_in_the_middle: bool) -> None:
        self.send_response(answer.status)
        length = {} if answer.status == 304 else {"Content-Length": str(len(answer.body))}
        for name, value in {**length, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if stop_in_the_middle:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.cut()
        elif self.command != "HEAD":
            self.wfile.write(answer.body)

    def hang_up(self) -> None:
        self.traffic.note(self, None)
        self.cut()

    def cut(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


def _failed(status: int) -> Answer:
    return RefusedError(status, "planned to fail").answer
