"""A real Chromium without a window, for pages that tests open from a file."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

__all__ = ["WIDTHS", "asked_for", "browser", "needs_browser"]

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WIDTHS = (1280, 420)
"""pixels of a window on a desk, and of a telephone"""

needs_browser = pytest.mark.skipif(
    not CHROMIUM or not DRIVER, reason="no chromium with its chromedriver on PATH (Debian: chromium, chromium-driver)"
)


@pytest.fixture
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser that notes its console and what it asks for."""
    assert CHROMIUM
    assert DRIVER
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser') / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with Chrome(options, ChromeService(DRIVER)) as driver:
        yield driver


def asked_for(browser: Chrome, page: str) -> list[str]:
    """Every address that the page asked for, its own among them."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [one["request"]["url"] for one in sent if one["documentURL"] == page]


def as_shown(browser: Chrome, width: int, picture: Path) -> None:
    """Show the page as wide as this and as high as it is, and take its picture; nothing may stick out."""
    browser.set_window_size(width, 900)
    # A window has a least width of its own, so that a telephone is told rather than made.
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    across = browser.execute_script("return document.documentElement.scrollWidth")
    assert across <= browser.execute_script("return window.innerWidth")
    high = browser.execute_script("return document.documentElement.scrollHeight")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**metrics, "height": high})
    assert browser.save_screenshot(str(picture))
