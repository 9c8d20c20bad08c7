"""A headless Chromium that uses the page of `foal-hf demo`."""

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


PROGRAMS = ("chromium", "chromedriver")
PATIENCE_SECONDS = 120  # of a busy machine
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # which a container may forbid; nothing but the page is opened
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--window-size=1280,1000",
)


class Browser:
    """A browser with the page open.

    Args:
        driver (`selenium.webdriver.Chrome`): What drives it.
    """

    def __init__(self, driver: Any):
        self.driver = driver

    def find(self, selector: str) -> Any:
        """The first element that a CSS selector names, once it is there."""
        return self.wait_for(lambda: self.driver.find_elements("css selector", selector))[0]

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        """What a condition gives, once that is true."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(
            self.driver,
            PATIENCE_SECONDS,
            poll_frequency=0.1,
            ignored_exceptions=(StaleElementReferenceException,),  # the page was changing
        )
        return wait.until(lambda _: condition())

    def open(self, url: str) -> None:
        """Open the page, and wait until the model is there."""
        self.driver.get(url)
        self.wait_for(lambda: "Ready: " in self.value("#foal-status"))

    def give(self, path: Path, medium: str = "video") -> None:
        """Give the page a recording, and return once it was predicted and the page takes the next one."""
        self.driver.execute_script("document.querySelector('#foal-about textarea').value = ''")
        self.find(f"#foal-{medium} input[type=file]").send_keys(str(path))
        self.wait_for(lambda: self.value("#foal-about") and "is being read" not in self.value("#foal-about"))
        self.find(f"#foal-{medium} input[type=file]")  # gone while the page holds a recording

    def value(self, selector: str) -> str:
        """What a text box contains."""
        return self.find(f"{selector} textarea").get_attribute("value")

    def text(self, selector: str) -> str:
        """The text of an element."""
        return self.find(selector).text

    def download(self, ending: str) -> str:
        """The content of a download."""
        link = self.find(f'#foal-downloads a[download$=".{ending}"]').get_attribute("href")
        return base64.b64decode(link.partition("base64,")[2]).decode()

    def hosts_asked(self) -> set[str | None]:
        """Hosts of all requests that the browser wanted to make since it was asked before."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        asked += [m["params"]["url"] for m in messages if m["method"] == "Network.webSocketCreated"]
        return {urlsplit(url).hostname for url in asked if urlsplit(url).scheme in ("http", "https", "ws", "wss")}

    def save_screenshot(self, path: Path, width: int = 1280) -> None:
        """The whole page as an image."""

        def set_size(height: int) -> None:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

        set_size(1000)
        set_size(self.driver.execute_script("return document.documentElement.scrollHeight"))
        self.driver.save_screenshot(str(path))


def why_no_browser() -> str | None:
    """What is missing for a browser, if anything is."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"{' and '.join(missing)} not found: apt-get install chromium chromium-driver" if missing else None


@contextmanager
def start_browser(profile: Path) -> Iterator[Browser]:
    """A browser that keeps what it writes in a folder of its own."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for option in (*_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    proxies = ("http_proxy", "https_proxy", "all_proxy")  # the driver is asked on this machine
    environment = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    service = webdriver.ChromeService(shutil.which("chromedriver"), env=environment)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
