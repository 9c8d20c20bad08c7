"""The page as a person meets it: in a real browser, with generated clips."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, start_browser
from media_builders import run_ffmpeg
from requirements import need

from foal_hf.synthetic import generate_recording


pytestmark = pytest.mark.slow
need("chromium")


class Demo:
    """The page in a process of its own, as it is used; gradio leaves sockets open, which ends with the process.

    Args:
        folder (`pathlib.Path`): For its temporary files.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._asked, self._said = folder / "asked.json", (folder / "said.txt").open("w+")
        command = [
            sys.executable,
            Path(__file__).parents[1] / "support" / "demo_child.py",
            self._asked,
            "--json",
            "--max-upload-mib",
            "3",
        ]
        environment = {**os.environ, "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=self._said, text=True)
        first = self._process.stdout.readline()
        assert first, self.said()
        self.url = json.loads(first)["url"]

    def said(self) -> str:
        self._said.seek(0)
        return self._said.read()

    def uploads(self) -> list[Path]:
        """Files that the page keeps at the moment."""
        return [path for path in self.folder.glob("foal-hf-demo-*/**/*") if path.is_file()]

    def end(self) -> tuple[int, list[str]]:
        """Press Ctrl-C, and give the exit code and what the process connected to."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        with self._process:
            code = self._process.wait()
        self._said.close()
        return code, json.loads(self._asked.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    demo = Demo(tmp_path_factory.mktemp("demo"))
    yield demo
    demo.end()


@pytest.fixture(scope="module")
def browser(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with start_browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.open(demo.url)
        yield browser


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "happy, then sad.mp4"
    generate_recording(path, ["happy", "sad"], seconds_each=4.0)
    return path


def test_a_clip_gets_its_label_and_timeline_and_nothing_of_it_stays(demo: Demo, browser: Browser, clip: Path) -> None:
    browser.give(clip)
    browser.wait_for(lambda: not demo.uploads())
    assert browser.text("#foal-answer .foal-label") in ("happy", "sad")
    assert clip.name in browser.text("#foal-answer")
    runs = browser.driver.find_elements("css selector", "#foal-timeline .foal-run")
    assert [run.text for run in runs] == ["happy", "sad"]
    width = browser.find(".foal-timeline").size["width"]
    assert sum(run.size["width"] for run in runs) == pytest.approx(width, rel=0.02)
    assert "rests on sound and picture" in browser.text("#foal-answer .foal-facts")
    assert len(browser.driver.find_elements("css selector", "#foal-table tbody tr")) >= 2
    assert "at work or in education is prohibited" in browser.text(".foal-notice")
    assert "mean nothing on real people" in browser.text("#foal-status")


def test_downloads_hold_the_segments(browser: Browser, clip: Path) -> None:
    browser.give(clip)
    segments = json.loads(browser.download("json"))
    rows = list(csv.DictReader(io.StringIO(browser.download("csv"))))
    assert [segment["label"] for segment in segments] == [row["label"] for row in rows]
    assert {segment["label"] for segment in segments} == {"happy", "sad"}
    assert [float(row["start_seconds"]) for row in rows] == [segment["start_seconds"] for segment in segments]
    assert browser.download("vtt").startswith("WEBVTT\n")


def test_a_click_on_the_timeline_leads_the_player_there(browser: Browser, clip: Path) -> None:
    browser.give(clip)
    at = "return document.querySelector('.foal-player video').currentTime"
    browser.wait_for(lambda: browser.driver.execute_script("return document.querySelector('video').readyState > 0"))
    browser.driver.find_elements("css selector", "#foal-timeline .foal-run")[1].click()
    assert browser.wait_for(lambda: browser.driver.execute_script(at)) > 2


def test_the_page_survives_a_recording_that_is_none(demo: Demo, browser: Browser, clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no film" * 97)
    browser.give(broken)
    said = browser.text("#foal-answer .foal-error")
    assert "broken.mp4" in said and str(demo.folder) not in said
    assert not browser.driver.find_elements("css selector", ".foal-run")
    browser.wait_for(lambda: not demo.uploads())
    browser.give(clip)
    assert browser.text("#foal-answer .foal-label") in ("happy", "sad")


def test_a_recording_that_is_too_large_is_refused(demo: Demo, browser: Browser, clip: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(4 * 2**20))
    browser.find("#foal-film input[type=file]").send_keys(str(large))
    assert "size" in browser.text(".toast-body")
    browser.wait_for(lambda: not demo.uploads())
    browser.open(demo.url)
    browser.give(clip)
    assert browser.text("#foal-answer .foal-label") in ("happy", "sad")


def test_what_a_browser_records_is_judged_though_it_does_not_say_how_long_it_is(
    demo: Demo, browser: Browser, clip: Path, tmp_path: Path
) -> None:
    recorded = tmp_path / "camera.webm"  # a browser writes the header before it knows
    coded = ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus")
    run_ffmpeg("-i", clip, *coded, "-f", "webm", "-live", "1", recorded)
    browser.give(recorded)
    assert browser.text("#foal-answer .foal-label") in ("happy", "sad")
    assert "rests on sound and picture" in browser.text("#foal-answer .foal-facts")
    browser.wait_for(lambda: not demo.uploads())


def test_a_sound_is_judged_by_what_there_is(browser: Browser, clip: Path, tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    run_ffmpeg("-i", clip, "-vn", sound)
    browser.driver.find_elements("css selector", "button[role=tab]")[1].click()
    browser.give(sound, "sound")
    facts = browser.text("#foal-answer .foal-facts")
    assert "rests on the sound alone" in facts and "There is no picture." in facts


def test_a_port_that_is_taken_is_one_line(demo: Demo, tmp_path: Path) -> None:
    port = demo.url.rstrip("/").rpartition(":")[2]
    command = [sys.executable, "-m", "foal_hf", "demo", "--port", port]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert f"foal-hf: Port {port} of 127.0.0.1 is taken" in finished.stderr
    assert "Traceback" not in finished.stderr and list(tmp_path.glob("foal-hf-demo-*")) == []


def test_nothing_left_this_machine_and_ctrl_c_leaves_nothing(demo: Demo, browser: Browser) -> None:
    assert browser.hosts_asked() == {"127.0.0.1"}
    errors = [entry["message"] for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []  # nor was anything tried that the policy of the page forbids
    browser.driver.get("about:blank")
    code, asked = demo.end()
    assert code == 0
    assert "127.0.0.1" in asked and set(asked) <= {"127.0.0.1", "localhost", "::1"}
    assert list(demo.folder.glob("foal-hf-demo-*")) == []
