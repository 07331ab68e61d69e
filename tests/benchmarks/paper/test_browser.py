"""The page as a browser shows it: a real Chromium without a window, from a file."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.page import write_page
from kbsync.benchmarks.paper.run import chosen_experiments, run_paper

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WANTED = ("zsre", "counterfact", "scaling", "categories", "mixture", "trace", "time", "stars")
WIDTHS = (1280, 420)
"""pixels of a window on a desk, and of a telephone"""

pytestmark = pytest.mark.skipif(
    not CHROMIUM or not DRIVER, reason="no chromium with its chromedriver on PATH (Debian: chromium, chromium-driver)"
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    """A browser that notes its console and what it asks for."""
    assert CHROMIUM
    assert DRIVER
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with Chrome(options, ChromeService(DRIVER)) as driver:
        yield driver


def asked_for(browser: Chrome, page: str) -> list[str]:
    """Every address that the page asked for, its own among them."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [one["request"]["url"] for one in sent if one["documentURL"] == page]


def test_every_figure_shows_and_nothing_is_wrong(bench: PaperBench, browser: Chrome, tmp_path: Path) -> None:
    run = run_paper(bench, chosen_experiments(WANTED, bench.data), tmp_path / "out")
    page = write_page(run).as_uri()
    browser.set_window_size(WIDTHS[0], 900)
    browser.get(page)
    charts = [chart for done in run.experiments.values() for chart in done.result.charts]
    assert len(charts) >= len(WANTED)
    for width in WIDTHS:
        browser.set_window_size(width, 900)
        for chart in charts:
            svg = browser.find_element(By.CSS_SELECTOR, f"#figure-{chart.name} svg")
            assert svg.is_displayed()
            assert min(svg.size.values()) > 0
            assert svg.size["width"] <= width
        across = browser.execute_script("return document.documentElement.scrollWidth")
        assert across <= browser.execute_script("return window.innerWidth")
        high = browser.execute_script("return document.documentElement.scrollHeight")
        browser.set_window_size(width, high)
        assert browser.save_screenshot(str(tmp_path / f"page-{width}.png"))
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    asked = asked_for(browser, page)
    assert page in asked
    assert [url for url in asked if url != page and not url.startswith("data:")] == []
