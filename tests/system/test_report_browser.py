"""The report in a real browser: no request, no complaint, no sideways scrolling, anchors, contrast, print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.system import browser as browsers
from tests.system.browser import Browser, BrowserMissingError
from tests.unit.reporting.factory import make_report
from toolkit.metrics import MetricSet
from toolkit.reporting import compare_runs, render_report
from toolkit.reporting.difference import render_comparison

pytestmark = pytest.mark.system
WINDOWS = [(width, height, scheme) for width, height in ((1280, 900), (390, 844)) for scheme in ("light", "dark")]

# Contrast of each text with what lies behind it (WCAG 2.2, 1.4.3), for text that can be seen.
CONTRAST = """
(() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return {r, g, b, a};
  };
  const light = ({r, g, b}) => [r, g, b].map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.a > 0) return color;
    }
    return {r: 255, g: 255, b: 255, a: 1};
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const front = parse(element instanceof SVGElement ? style.fill : style.color);
    const [low, high] = [light(front), light(behind(element))].sort((x, y) => x - y);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) poor.push(`${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
})()
"""
WIDE = """
[...document.querySelectorAll("body *")]
  .filter((element) => !element.closest(".scroll, pre, .hidden, .skip"))
  .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
  .map((element) => element.tagName + "." + element.className)
"""
BROKEN = """[...document.images].filter((image) => !image.complete || image.naturalWidth === 0).length"""
LOST = """
[...document.querySelectorAll('a[href^="#"]')]
  .filter((link) => !document.getElementById(link.getAttribute("href").slice(1))).map((link) => link.href)
"""
SMALL_TEXT = """
[...document.querySelectorAll("svg text")]
  .map((text) => text.getBoundingClientRect().height).filter((height) => height < 8).length
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_report(make_report(), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of which one is better here and worse there."""
    data = make_report()
    changed = [
        metric.model_copy(update={"value": metric.value * 1.5, "interval": None}) if index % 3 == 0 else metric
        for index, metric in enumerate(data.metrics)
    ]
    path = tmp_path_factory.mktemp("comparison") / "compare.html"
    return render_comparison(compare_runs(data.metrics, MetricSet(changed)), path, "before", "after")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.mark.parametrize("page_of", ["report", "comparison"])
@pytest.mark.parametrize(("width", "height", "scheme"), WINDOWS)
def test_page_can_be_read(
    browser: Browser,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    page_of: str,
    width: int,
    height: int,
    scheme: str,
) -> None:
    report: Path = request.getfixturevalue(page_of)
    browser.open(report, width, height, scheme)
    assert browser.requests() == [report.resolve().as_uri()]
    assert browser.complaints() == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(WIDE) == []
    assert browser.evaluate(BROKEN) == 0
    assert browser.evaluate(LOST) == []
    assert browser.evaluate(CONTRAST) == []
    assert browser.evaluate(SMALL_TEXT) == 0
    picture = tmp_path / "page.png"
    browser.screenshot(picture)
    page = cv2.imread(str(picture))
    assert page is not None
    assert page.shape[1] == width
    assert (np.median(page) < 60) == (scheme == "dark")


def test_following_an_anchor_shows_its_section(browser: Browser, report: Path) -> None:
    browser.open(report, 390, 844, "light")
    links = browser.evaluate("document.querySelectorAll('nav a').length")
    assert links >= 10
    for index in range(links):
        browser.evaluate(f"document.querySelectorAll('nav a')[{index}].click()")
        top = browser.evaluate("document.querySelector(location.hash).getBoundingClientRect().top")
        bottom = browser.evaluate("document.documentElement.scrollHeight - scrollY - innerHeight")
        assert abs(top) < 60 or bottom < 2


def test_wide_tables_scroll_inside_their_own_box(browser: Browser, report: Path) -> None:
    browser.open(report, 390, 844, "light")
    moved = browser.evaluate(
        "(() => { const box = document.querySelector('#path .scroll'); box.scrollLeft = 100;"
        " const first = box.querySelector('tbody tr:nth-child(2) th').getBoundingClientRect();"
        " return [box.scrollLeft, Math.round(first.left), scrollX]; })()"
    )
    assert moved[0] == 100
    assert moved[1] < 30  # the row's name stays in sight
    assert moved[2] == 0


CUT = """
[...document.querySelectorAll(".scroll")].filter((box) => box.scrollWidth > box.clientWidth + 1)
  .map((box) => box.getAttribute("aria-label"))
"""


def test_no_open_table_is_cut_off_on_a_wide_screen(browser: Browser, report: Path) -> None:
    browser.open(report, 1280, 900, "light")
    assert browser.evaluate(CUT) == []


def test_prints_to_pdf_with_everything_open(browser: Browser, report: Path, tmp_path: Path) -> None:
    browser.open(report, 1280, 900, "dark")
    path = tmp_path / "report.pdf"
    browser.pdf(path)
    data = path.read_bytes()
    assert data.startswith(b"%PDF-")
    assert len(data) > 100_000


def test_missing_browser_is_a_failure_that_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsers, "NAMES", ("no-such-browser",))
    with pytest.raises(BrowserMissingError, match="apt-get install -y --no-install-recommends chromium"):
        browsers.find_browser()
