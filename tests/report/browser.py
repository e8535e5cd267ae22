"""Drives a real, headless Chromium: opens a page from disk, acts as a reader does, and hears what the page does.

Knows no report. Needs the packages of the extra `browser`, and Chromium with its driver on the machine.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
    "--force-color-profile=srgb",
)  # fmt: skip


def why_not() -> str | None:
    """Why there is no browser to test in; `None` when there is one."""
    try:
        import selenium  # noqa: F401 - looked for
    except ImportError:
        return "selenium is not installed: pip install selenium"
    if _find(*BROWSERS) is None:
        return "there is no Chromium: apt-get install chromium chromium-driver"
    if _find("chromedriver") is None:
        return "there is no chromedriver: apt-get install chromium-driver"
    return None


def _find(*names: str) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)


class Browser:
    """One browser window. A context manager.

    Args:
        width: Of the window, in CSS pixels.
        height: Of the window.
        dark: Whether the reader prefers a dark scheme.
        scale: Device pixels to a CSS pixel.
    """

    def __init__(self, width: int = 1360, height: int = 900, *, dark: bool = False, scale: float = 1) -> None:
        from selenium.webdriver import Chrome, ChromeOptions, ChromeService

        options = ChromeOptions()
        options.binary_location = _find(*BROWSERS)
        for flag in FLAGS:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # The driver's address is this machine's: a proxy has no part in it.
        os.environ.setdefault("NO_PROXY", "localhost,127.0.0.1")
        self.driver = Chrome(options, ChromeService(_find("chromedriver")))
        self.resize(width, height, scale)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.quit()

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Gives the window another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def open(self, page: Path, fragment: str = "") -> float:
        """Opens a page from disk, and returns the seconds until it says that it is ready."""
        self.driver.get("about:blank")
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        start = time.perf_counter()
        self.driver.get(page.resolve().as_uri() + fragment)
        self.wait("return document.documentElement.dataset.ready === 'true'")
        return time.perf_counter() - start

    def run(self, script: str, *args: Any) -> Any:
        """What a script `return`s."""
        return self.driver.execute_script(script, *args)

    def wait(self, script: str, *args: Any, seconds: float = 15) -> Any:
        """Waits until what a script returns is true, and returns it."""
        end = time.perf_counter() + seconds
        while not (value := self.run(script, *args)):
            if time.perf_counter() > end:
                raise TimeoutError(f"never true in {seconds} s: {script}")
            time.sleep(0.01)
        return value

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements that a CSS selector finds."""
        return list(
            self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)
        )

    def text(self, selector: str) -> str:
        """The text of the one element that a CSS selector finds."""
        (text,) = self.texts(selector)
        return text

    def click(self, selector: str) -> None:
        """Clicks the first element that a CSS selector finds."""
        self.driver.find_element("css selector", selector).click()

    def choose(self, selector: str, value: str) -> None:
        """Chooses an option of a select by its value."""
        self.driver.find_element("css selector", f'{selector} option[value="{value}"]').click()

    def type(self, selector: str, text: str) -> None:
        """Types into a field, instead of what is there."""
        field = self.driver.find_element("css selector", selector)
        field.clear()
        field.send_keys(text)

    def press(self, key: str) -> None:
        """Presses a key by its name (`enter`, `down`), or those of a text, wherever the focus is."""
        from selenium.webdriver.common.keys import Keys

        named = {
            "enter": Keys.ENTER, "escape": Keys.ESCAPE, "tab": Keys.TAB,
            "up": Keys.UP, "down": Keys.DOWN, "left": Keys.LEFT, "right": Keys.RIGHT,
        }  # fmt: skip
        self.driver.switch_to.active_element.send_keys(named.get(key, key))

    def back(self) -> None:
        """Goes back, as the browser's own button does."""
        self.driver.back()

    def forward(self) -> None:
        """Goes forward."""
        self.driver.forward()

    def download_to(self, folder: Path) -> None:
        """Names the folder that takes the files which the page saves."""
        how = {"behavior": "allow", "downloadPath": str(folder)}
        self.driver.execute_cdp_cmd("Browser.setDownloadBehavior", how)

    def hand_over(self, selector: str, file: Path) -> None:
        """Chooses a file in a file field."""
        self.driver.find_element("css selector", selector).send_keys(str(file))

    def complaints(self) -> list[str]:
        """What the console has heard since the page was opened: errors, warnings, breaches of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Every address that was asked for since the page was opened, data URLs aside."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith("data:")]

    def screenshot(self, path: Path) -> None:
        """Writes what the window shows as PNG."""
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(shot["data"]))
