from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.unit.reporting import factory
from tests.unit.reporting.factory import DENSE, INT8, draw_cars, make_grid, make_report, without_charts
from toolkit.errors import ArtifactError
from toolkit.metrics import MetricSet
from toolkit.reporting import PictureGrid, PictureRow, ReportInput, ReportVariant, render_report
from toolkit.reporting.html import MAX_BYTES, render_html

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Collects what the tests ask for, and checks that elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def full() -> str:
    return render_html(make_report())


@pytest.fixture(scope="module")
def page(full: str) -> Page:
    return Page(full)


def test_is_well_formed_and_small(full: str, page: Page) -> None:
    assert page.open == []
    assert len(full.encode()) < MAX_BYTES


def test_nothing_comes_from_elsewhere_and_nothing_runs(full: str, page: Page) -> None:
    assert not page.all("script")
    assert not page.all("iframe")
    sources = [attributes.get("src") for attributes in page.all("img")]
    assert sources
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    links = [attributes.get("href") or attributes.get("xlink:href") for _, attributes in page.tags]
    assert all(link is None or link.startswith(("#", "data:")) for link in links)
    assert "@import" not in full
    assert not re.search(r"url\((?!#)", full)


def test_identifiers_are_unique_and_every_anchor_exists(page: Page) -> None:
    names = [str(attributes["id"]) for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    targets = [str(value)[1:] for _, a in page.tags for key, value in a.items() if key.endswith("href")]
    assert {target for target in targets if not target.startswith("ata:")} <= set(names)


def test_headings_do_not_skip_a_level(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_picture_and_chart_has_words(page: Page) -> None:
    assert all((attributes.get("alt") or "").strip() for attributes in page.all("img"))
    charts = page.all("svg")
    assert len(charts) > 10
    assert all(attributes.get("role") == "img" and attributes.get("aria-label") for attributes in charts)


def test_verdict_comes_first_in_words(page: Page) -> None:
    text = page.text
    assert "plates stay unread (slim INT8 by plate reader)" in text
    assert "ridge did not converge, so its failure proves nothing" in text
    assert text.index("FAILS: 2 of 3") < text.index("Each column is a variant")


def test_numbers_have_origin_spread_and_machine(page: Page) -> None:
    text = page.text
    assert "0.878 to 0.941" in text
    assert "predicted , for" not in text
    assert "predicted for Jetson Orin Nano 8GB, 15 W" in text
    assert "where no machine is named, it is Made-up CPU" in text
    assert "inverse network, not trusted: at least this much" in text


def test_scores_stand_under_each_picture(full: str) -> None:
    grid = make_grid()
    scores = full.count('<span class="score">SSIM\N{NARROW NO-BREAK SPACE}0.')
    assert scores >= len(grid.rows) * len(grid.originals)


def test_hostile_names_are_escaped() -> None:
    evil = '<script>alert("x")</script>$\\frac{1}{0}$&amp;--><!--'
    grid = PictureGrid(draw_cars(1), (PictureRow(evil, draw_cars(1), {evil: [0.5]}),), (evil,), evil)
    data = make_report(
        name=evil,
        title=evil,
        machine=evil,
        variants=(ReportVariant(DENSE, evil, "dense"), ReportVariant(INT8, evil + "2", "INT8", True)),
        curves={evil: {evil: [(0, 1.0), (1, 0.5)]}},
        pictures=grid,
        manifest={evil: [{evil: evil}]},
        settings=evil,
        notes=(evil,),
    )
    text = render_html(data)
    assert "<script" not in text
    assert Page(text).open == []


def test_least_report_says_that_nothing_is_known() -> None:
    text = Page(render_html(ReportInput("empty", MetricSet()))).text
    assert "NOT JUDGED" in text
    assert "Path of the model" not in text
    assert "Privacy" not in text


def test_deployed_variant_without_attack_is_not_called_private() -> None:
    kept = MetricSet(
        metric for metric in factory.make_metrics() if not metric.name.startswith(("privacy", "leak"))
    )
    text = Page(render_html(without_charts(metrics=kept, verdicts=()))).text
    assert "No attack was run on it, so nothing is known about its privacy." in text


def test_published_form_leaves_real_pictures_out() -> None:
    real = without_charts(contains_real_pictures=True)
    shown, published = render_html(real), render_html(real, publish=True)
    assert "data:image/png" in shown
    assert "data:image/png" not in published
    assert "data:image/jpeg" not in published
    assert "vehicle 000" not in published
    assert "left out of this published report" in published
    assert "data:image/png" in render_html(without_charts(contains_real_pictures=False), publish=True)


def test_pictures_are_real_unless_said_otherwise() -> None:
    assert ReportInput("x", MetricSet()).contains_real_pictures


def test_large_grid_is_cut_until_the_file_is_small_enough(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 256, 256, 3), dtype=np.uint8)
    grid = PictureGrid(noise, tuple(PictureRow(f"attacker {index}", noise) for index in range(3)))
    path = render_report(without_charts(pictures=grid, plates=None), tmp_path / "new" / "report.html")
    assert path.stat().st_size <= MAX_BYTES
    assert "more pictures did not fit" in path.read_text(encoding="utf-8")


def test_same_input_gives_the_same_file(full: str) -> None:
    assert render_html(make_report()) == full


def test_unwritable_place_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write the report"):
        render_report(ReportInput("x", MetricSet()), tmp_path / "file" / "report.html")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ArtifactError, match="cannot write the report"):
        render_report(ReportInput("x", MetricSet()), tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]
