"""Real requests to the running page: who may upload what, and how long it stays."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from demo_page import DemoPage, wait_until
from media_builders import BEEP, make_clip


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoPage]:
    demo = DemoPage(tmp_path_factory.mktemp("demo"))
    yield demo
    demo.end()


@pytest.fixture
def recording(tmp_path: Path) -> bytes:
    return make_clip(tmp_path / "clip.wav", video=None, audio=BEEP).read_bytes()


def test_the_prediction_of_an_upload_leaves_an_equal_one(demo: DemoPage, recording: bytes) -> None:
    first, second = (Path(demo.upload(recording).json()[0]) for _ in range(2))
    assert first != second and first.name == second.name == "clip.wav"
    file = {"path": str(first), "meta": {"_type": "gradio.FileData"}}
    result = demo.call("predict_1", [file, "auto", 6, 0], session="first")
    assert result["data"][0]["label"] in ("happy", "neutral", "sad", "angry")
    assert not first.exists() and second.read_bytes() == recording
    file["path"] = str(second)
    assert "clip.wav" in demo.call("predict_1", [file, "auto", 6, 0], session="second")["data"][1]
    assert not second.exists()


@pytest.mark.parametrize("origin", ["https://example.org", "http://127.0.0.1:1", "http://localhost:1", "null"])
def test_other_origins_are_refused_without_credentials(demo: DemoPage, recording: bytes, origin: str) -> None:
    before = demo.uploads()
    answers = [demo.upload(recording, origin=origin)]
    preflight = {"origin": origin, "access-control-request-method": "POST"}
    answers.append(httpx.options(f"{demo.url}/gradio_api/upload", headers=preflight, trust_env=False))
    answers.append(httpx.get(f"{demo.url}/config", headers={"origin": origin}, trust_env=False))
    for answer in answers:
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert demo.uploads() == before


def test_the_page_itself_may_upload_and_load_nothing_from_elsewhere(demo: DemoPage, recording: bytes) -> None:
    answer = demo.upload(recording, origin=demo.url)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'self' ")
    assert Path(answer.json()[0]).read_bytes() == recording


@pytest.mark.parametrize(
    ("contents", "status", "message"),
    [
        ([b"one", b"two"], 400, "Expected one recording per request, got 2."),
        ([], 400, ""),
        ([bytes(3 * 2**20 + 1)], 413, "maximum allowed size"),
        ([bytes(2 * 2**20), bytes(2 * 2**20)], 413, "at most"),
    ],
    ids=["two", "none", "too large", "too large together"],
)
def test_one_recording_of_a_limited_size_per_request(
    demo: DemoPage, contents: list[bytes], status: int, message: str
) -> None:
    before = demo.uploads()
    answer = demo.upload(*contents)
    assert answer.status_code == status and message in answer.text
    assert demo.uploads() == before


def test_an_upload_that_breaks_off_leaves_nothing(demo: DemoPage) -> None:
    before = demo.uploads()
    host, port = demo.url.removeprefix("http://").split(":")
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        '--x\r\nContent-Disposition: form-data; name="files"; filename="clip.wav"\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"half of it" * 997)
        wait_until(lambda: len(demo.uploads()) == len(before) + 1)
    wait_until(lambda: demo.uploads() == before)


def test_the_upload_of_a_page_that_was_closed_is_deleted(demo: DemoPage, recording: bytes) -> None:
    path = Path(demo.upload(recording).json()[0])
    file = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    with httpx.stream("GET", f"{demo.url}/gradio_api/heartbeat/closed", timeout=60, trust_env=False) as heartbeat:
        lines = heartbeat.iter_lines()
        next(lines)  # the page is open
        assert demo.call("claim_1", [file], session="closed")["data"] == ["clip.wav is being read."]
        assert path.exists()
    wait_until(lambda: not path.exists())
