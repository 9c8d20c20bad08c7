"""The page as a person meets it: in a real browser, with generated clips."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, start_browser
from demo_page import DemoPage
from media_builders import run_ffmpeg
from requirements import need

from foal_hf.synthetic import generate_recording


pytestmark = pytest.mark.slow

TIMELINE = "document.querySelector('#foal-timeline img')"
need("chromium")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoPage]:
    demo = DemoPage(tmp_path_factory.mktemp("demo"))
    yield demo
    demo.end()


@pytest.fixture(scope="module")
def browser(demo: DemoPage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with start_browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.open(demo.url)
        yield browser


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "happy, then sad.mp4"
    generate_recording(path, ["happy", "sad"], seconds_each=4.0)
    return path


def test_a_clip_gets_its_label_and_timeline_and_nothing_of_it_stays(
    demo: DemoPage, browser: Browser, clip: Path
) -> None:
    browser.give(clip)
    browser.wait_for(lambda: not demo.uploads())
    assert browser.text("#foal-label h2") in ("happy", "sad")
    shares = [element.text for element in browser.driver.find_elements("css selector", "#foal-label dd")]
    assert len(shares) == 4 and all(share.endswith("%") for share in shares)
    assert clip.name in browser.value("#foal-about")
    assert "The prediction is based on audio and video." in browser.value("#foal-about")
    browser.wait_for(lambda: browser.driver.execute_script(f"return {TIMELINE}.naturalWidth > 0"))
    num_rows = int(browser.find("#foal-table [role=grid]").get_attribute("aria-rowcount"))
    assert num_rows == 1 + len(json.loads(browser.download("json")))
    assert "at work or in education is prohibited" in browser.text("#foal-limits")
    assert "Ready: foal-net-small predicts happy" in browser.value("#foal-status")
    assert "mean nothing on real people" in browser.value("#foal-status")


def test_downloads_hold_the_segments(browser: Browser, clip: Path) -> None:
    browser.give(clip)
    segments = json.loads(browser.download("json"))
    rows = list(csv.DictReader(io.StringIO(browser.download("csv"))))
    assert [segment["label"] for segment in segments] == [row["label"] for row in rows]
    assert {segment["label"] for segment in segments} == {"happy", "sad"}
    assert [float(row["start_seconds"]) for row in rows] == [segment["start_seconds"] for segment in segments]
    assert browser.download("vtt").startswith("WEBVTT\n")


def test_a_selected_segment_is_where_the_player_goes(browser: Browser, clip: Path) -> None:
    browser.give(clip)
    at = "return document.querySelector('#foal-player').currentTime"
    browser.wait_for(lambda: browser.driver.execute_script("return document.querySelector('video').readyState > 0"))
    last = json.loads(browser.download("json"))[-1]
    cells = browser.driver.find_elements("css selector", "#foal-table [role=gridcell]")
    next(cell for cell in cells if cell.text == f"{last['end_seconds']:.2f}").click()
    assert browser.wait_for(lambda: browser.driver.execute_script(at)) == last["start_seconds"] > 2


def test_the_page_survives_a_file_that_is_no_recording(
    demo: DemoPage, browser: Browser, clip: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no video" * 97)
    browser.give(broken)
    message = browser.value("#foal-about")
    assert "The prediction failed." in message and "broken.mp4" in message and str(demo.folder) not in message
    assert browser.text("#foal-label h2") == "no prediction"
    assert not browser.driver.find_elements("css selector", "#foal-timeline img")
    browser.wait_for(lambda: not demo.uploads())
    browser.give(clip)
    assert browser.text("#foal-label h2") in ("happy", "sad")


def test_a_recording_that_is_too_large_is_refused(demo: DemoPage, browser: Browser, clip: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(4 * 2**20))
    browser.find("#foal-video input[type=file]").send_keys(str(large))
    browser.wait_for(lambda: "size" in browser.text(".toast-body"))
    browser.wait_for(lambda: not demo.uploads())
    browser.open(demo.url)
    browser.give(clip)
    assert browser.text("#foal-label h2") in ("happy", "sad")


def test_a_recording_of_a_browser_which_does_not_state_its_length_is_predicted(
    demo: DemoPage, browser: Browser, clip: Path, tmp_path: Path
) -> None:
    recorded = tmp_path / "camera.webm"  # a browser writes the header before it knows the length
    coded = ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus")
    run_ffmpeg("-i", clip, *coded, "-f", "webm", "-live", "1", recorded)
    browser.give(recorded)
    assert browser.text("#foal-label h2") in ("happy", "sad")
    assert "based on audio and video" in browser.value("#foal-about")
    browser.wait_for(lambda: not demo.uploads())


def test_audio_is_predicted_without_video(browser: Browser, clip: Path, tmp_path: Path) -> None:
    audio = tmp_path / "audio.wav"
    run_ffmpeg("-i", clip, "-vn", audio)
    browser.driver.find_elements("css selector", "button[role=tab]")[1].click()
    browser.give(audio, "audio")
    about = browser.value("#foal-about")
    assert "based on the audio only" in about and "There is no video." in about


def test_a_port_that_is_taken_is_one_line(demo: DemoPage, tmp_path: Path) -> None:
    port = demo.url.rpartition(":")[2]
    command = [sys.executable, "-m", "foal_hf", "demo", "--port", port]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert f"foal-hf: Port {port} of 127.0.0.1 is taken" in finished.stderr
    assert "Traceback" not in finished.stderr and list(tmp_path.glob("foal-hf-demo-*")) == []


def test_nothing_left_this_machine_and_ctrl_c_leaves_nothing(demo: DemoPage, browser: Browser) -> None:
    assert browser.hosts_asked() == {"127.0.0.1"}
    errors = [entry["message"] for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert [error for error in errors if "Content Security Policy" in error] == []  # nor was anything blocked
    browser.driver.get("about:blank")
    code, asked = demo.end()
    assert code == 0
    assert "127.0.0.1" in asked and set(asked) <= {"127.0.0.1", "localhost", "::1"}
    assert list(demo.folder.glob("foal-hf-demo-*")) == []
