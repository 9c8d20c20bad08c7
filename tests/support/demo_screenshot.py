"""Draws the picture of the page that the README shows: the answer on a generated recording.

python tests/support/demo_screenshot.py docs/images/demo.png
"""

import sys
import tempfile
from pathlib import Path

from browser import start_browser
from PIL import Image

from foal_hf.demo import serve_demo
from foal_hf.synthetic import generate_recording


EMOTIONS = ["happy", "neutral", "sad", "angry"]
IS_SHOWN = """
const player = document.querySelector("#foal-player");
return !player.seeking && player.readyState > 1 && player.currentTime > 8;
"""


def draw(picture: Path) -> None:
    """Give the page a recording, go to its middle, and take the screenshot, in few colours so that it is small."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serve_demo() as demo,
        start_browser(Path(folder, "profile")) as browser,
    ):
        recording = Path(folder, "four emotions.mp4")
        generate_recording(recording, EMOTIONS, speaker=2, seconds_each=6.0)
        browser.open(demo.url)
        browser.give(recording)
        browser.driver.execute_script("document.querySelector('#foal-player').currentTime = 8.5")
        browser.wait_for(lambda: browser.driver.execute_script(IS_SHOWN))
        browser.save_screenshot(picture, width=1240)
    with Image.open(picture) as screenshot:
        screenshot.convert("RGB").quantize(256).save(picture, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
