"""The page of `foal-hf demo` in its own process, since gradio leaves sockets open that end with the process."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx


class DemoPage:
    """A served page.

    Args:
        folder (`pathlib.Path`): For its temporary files.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._asked, self._errors = folder / "asked.json", (folder / "errors.txt").open("w+")
        child = Path(__file__).with_name("demo_child.py")
        command = [sys.executable, child, self._asked, "--json", "--max-upload-mib", "3"]
        environment = {**os.environ, "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        first = self._process.stdout.readline()
        if not first:
            self._errors.seek(0)
            raise AssertionError(self._errors.read())
        self.url = json.loads(first)["url"].rstrip("/")

    def uploads(self) -> list[Path]:
        """Files that the page has at the moment."""
        return [path for path in self.folder.glob("foal-hf-demo-*/**/*") if path.is_file()]

    def upload(self, *contents: bytes, name: str = "clip.wav", **headers: str) -> httpx.Response:
        """Upload files in one request."""
        files = [("files", (name, content)) for content in contents]
        return httpx.post(f"{self.url}/gradio_api/upload", files=files, headers=headers, timeout=120, trust_env=False)

    def call(self, name: str, data: list[Any], session: str) -> dict[str, Any]:
        """Call an event of the page, as its script does, and wait for the result."""
        with httpx.Client(base_url=self.url, timeout=300, trust_env=False) as client:
            dependencies = client.get("/config").json()["dependencies"]
            index = next(event["id"] for event in dependencies if event["api_name"] == name)
            body = {"data": data, "fn_index": index, "session_hash": session}
            client.post("/gradio_api/queue/join", json=body).raise_for_status()
            with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as events:
                for line in events.iter_lines():
                    event = json.loads(line.removeprefix("data:") or "{}") if line.startswith("data:") else {}
                    if event.get("msg") == "process_completed":
                        return event["output"]
        raise AssertionError("no result")

    def end(self) -> tuple[int, list[str]]:
        """Press Ctrl-C, and give the exit code and what the process connected to."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        with self._process:
            code = self._process.wait()
        self._errors.close()
        return code, json.loads(self._asked.read_text(encoding="utf-8"))


def wait_until(condition: Callable[[], Any]) -> None:
    """Return once a condition holds that another process brings about."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited for two minutes"
        threading.Event().wait(0.02)
