"""The page as a browser shows it: a real Chromium without a window, from a file."""

from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from kbsync.benchmarks.paper.bench import PaperBench
from kbsync.benchmarks.paper.run import chosen_experiments, run_paper, write_page
from tests.browser import WIDTHS, asked_for, browser, needs_browser

__all__ = ["browser"]

WANTED = ("zsre", "scaling", "categories", "trace")
"""few, but figures of every kind"""

pytestmark = needs_browser


def test_every_figure_shows_and_nothing_is_wrong(bench: PaperBench, browser: Chrome, tmp_path: Path) -> None:
    bench.rows = ["memit", "none"]
    run = run_paper(bench, chosen_experiments(WANTED, bench.data), tmp_path / "out")
    page = write_page(run).as_uri()
    browser.set_window_size(WIDTHS[0], 900)
    browser.get(page)
    charts = [chart for done in run.experiments.values() for chart in done["result"].charts]
    assert {chart.kind for chart in charts} == {"bars", "lines", "map", "points"}
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
