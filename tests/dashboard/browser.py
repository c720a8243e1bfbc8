"""A headless Chromium that looks at the page: what is visible in it, text and colours."""

import io
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# Text of all elements that are visible, also in the shadow trees that Bokeh makes.
_TEXT = """
function text(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent;
  if (node.nodeType === Node.ELEMENT_NODE) {
    if (["STYLE", "SCRIPT"].includes(node.tagName)) return "";
    const box = node.getBoundingClientRect(), style = getComputedStyle(node);
    if (style.display !== "contents" && box.width * box.height === 0) return "";
    if (style.visibility === "hidden") return "";
  }
  const root = node.shadowRoot || node;
  return [...root.childNodes].map(text).join(" ");
}
return text(document.body).replace(/\\s+/g, " ");
"""


class Browser:
    """One window."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, url: str, width: int = 1280, height: int = 1000) -> None:
        self._driver.set_window_size(width, height)
        self._driver.get(url)

    def text(self) -> str:
        """What can be read, words apart by single spaces; the text of pictures is not in it."""
        return str(self._driver.execute_script(_TEXT))

    def wait(self, condition: Callable[[str], Any], seconds: float = 60.0) -> str:
        """The text, once `condition` holds of it."""
        end = time.monotonic() + seconds
        while not condition(text := self.text()):
            assert time.monotonic() < end, f"the page says only: {text}"
            time.sleep(0.2)
        return text

    def picture(self, path: Path | None = None) -> np.ndarray:
        """The window as (rows, columns, 3) uint8, also written to `path`."""
        png = self._driver.get_screenshot_as_png()
        if path is not None:
            path.write_bytes(png)
        with Image.open(io.BytesIO(png)) as image:
            return np.asarray(image.convert("RGB"))

    def pixels(self, colour: str) -> int:
        """How many pixels of the window have this colour, `#rrggbb`."""
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        return int((self.picture() == wanted).all(axis=2).sum())

    def width(self) -> tuple[int, int]:
        """Of the window, and of what is in it."""
        script = "return [document.documentElement.clientWidth, document.body.scrollWidth]"
        window, content = self._driver.execute_script(script)
        return int(window), int(content)

    def leave(self) -> None:
        """Close the page, before its server goes."""
        self._driver.get("about:blank")

    def complaints(self) -> list[str]:
        """Errors and warnings on the console since the last look; Dask's missing icon aside."""
        return [
            entry["message"]
            for entry in self._driver.get_log("browser")
            if entry["level"] in ("SEVERE", "WARNING") and "favicon" not in entry["message"]
        ]


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser; skips the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    binary, driver = next(filter(None, found), None), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with chromedriver found; Debian has chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",  # which root may not use
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(window)
    finally:
        window.quit()
