"""What a reader moves: charts follow, the address keeps it, nothing else gets in."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import browser
import polars as pl
import pytest
from report.live_page import BATCH, LINK, page, table

from roofrack.errors import InputError
from roofrack.report import live
from roofrack.report.controls import Control
from roofrack.report.export import export
from roofrack.report.payload import collected
from roofrack.report.render import Link, render


def test_a_table_of_charts_is_embedded_once() -> None:
    text = render(page())
    assert text.count('"link_b":[') == 1
    told = collected(page())
    assert told["figures"]["lines"]["uses"] == ["grid"]
    assert told["figures"]["lines"]["controls"] == ["batch", "link", "price", "system"]
    assert told["controls"][1]["texts"] == ["500 GB/s", "1 TB/s"]


def test_the_table_below_shows_what_the_chart_opens_with() -> None:
    rows = live.rows_at_start(table(), (BATCH, LINK))
    assert rows.height == 6
    assert set(rows["batch"]) == {8.0}


def test_controls_that_cannot_work_are_refused() -> None:
    other = Control("batch", "Another", (1.0,), 1.0)
    with pytest.raises(InputError, match="two controls have this key"):
        live.check([BATCH, other])
    with pytest.raises(InputError, match="starts at 3"):
        live.check([replace(BATCH, start=3.0)])


def test_export_draws_controls_where_they_start(tmp_path: Path) -> None:
    svg, csv, *_ = export(page(), tmp_path, ("svg", "csv"))
    assert svg.read_text().count('aria-roledescription="line mark"') == 2
    assert pl.read_csv(csv).height == 6


def test_a_page_of_a_site_links_the_others() -> None:
    site = (Link("Index", "index.html"), Link("Live", "live.html", True), Link("<b>", "b.html"))
    text = render(page(), site)
    assert '<a href="live.html" aria-current="page">Live</a>' in text
    assert '<a rel="next" href="b.html">&lt;b&gt; →</a>' in text
    assert '<a rel="prev" href="index.html">← Index</a>' in text


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("live") / "live.html"
    made.write_text(render(page()), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def tab(path: Path) -> Iterator[browser.Tab]:
    with browser.open_page(path) as opened:
        yield opened


LINES = (
    "[...document.querySelectorAll('[data-figure=lines] path[aria-roledescription=\"line mark\"]')]"
)
TICKS = "document.querySelector('[data-figure=lines] svg').textContent"
STILL = "document.documentElement.dataset.controls === 'still'"


def move(tab: browser.Tab, key: str, index: int) -> None:
    tab.evaluate(
        f"(e => {{ e.value = '{index}'; e.dispatchEvent(new Event('input', {{bubbles: true}})) }})"
        f"(document.querySelector('[data-control={key}]'))"
    )
    tab.wait_for(STILL)


@pytest.mark.slow
def test_sliders_move_the_curves_and_the_address(tab: browser.Tab) -> None:
    before = tab.evaluate(TICKS)
    move(tab, "batch", 2)
    assert tab.evaluate("location.hash") == "#batch=64"
    assert tab.evaluate(TICKS) != before  # costs an eighth: other labels on the axis
    assert tab.evaluate("document.querySelector('[data-control=batch] ~ output').value") == "64"
    at_batch = tab.evaluate(TICKS)
    move(tab, "price", 0)
    assert tab.evaluate(TICKS) != at_batch
    assert tab.evaluate("location.hash") == "#batch=64&price=1"
    tab.evaluate("document.querySelector('[data-reset]').click()")
    tab.wait_for(STILL)
    assert tab.evaluate(TICKS) == before
    assert tab.evaluate("location.hash") in ("", "#")
    assert tab.console == []


@pytest.mark.slow
def test_a_click_on_a_mark_chooses_it_everywhere(tab: browser.Tab) -> None:
    tab.evaluate(
        "(e => { for (const kind of ['pointerdown', 'pointerup', 'mousedown', 'mouseup', 'click'])"
        " e.dispatchEvent(new MouseEvent(kind, {bubbles: true})) })"
        "(document.querySelector('[data-figure=points] path[aria-roledescription=point]'))"
    )
    tab.wait_for("location.hash === '#system=one'")
    tab.wait_for(STILL)
    assert tab.evaluate(f"{LINES}.map(e => e.getAttribute('opacity'))") == ["1", "0.15"]
    assert tab.evaluate("document.querySelector('select[data-control=system]').value") == "1"
    move(tab, "system", 0)
    assert tab.evaluate("location.hash") in ("", "#")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "batch", "hash_after"),
    [
        ("#batch=64&system=two", "2", "#batch=64&system=two"),
        ("#batch=1e9", "2", None),  # clamped to the largest
        ("#batch=-5", "0", None),
        ("#batch=NaN&link=&system=%3Cscript%3E&__proto__=1&price=%E0%A4%A", "1", None),
        ("#rerun&batch=1", "0", None),
    ],
)
def test_an_address_restores_the_state_and_nothing_else(
    path: Path, address: str, batch: str, hash_after: str | None
) -> None:
    with browser.open_page(path, fragment=address) as tab:
        assert tab.evaluate("document.querySelector('[data-control=batch]').value") == batch
        assert tab.evaluate("document.querySelectorAll('.chart svg').length") == 2
        if hash_after:
            assert tab.evaluate(f"{LINES}.map(e => e.getAttribute('opacity'))") == ["0.15", "1"]
        assert tab.console == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1600])
def test_a_new_width_keeps_what_was_moved(tab: browser.Tab, width: int) -> None:
    tab.look(1200)
    move(tab, "batch", 0)
    wide = tab.evaluate("document.querySelector('[data-control=batch] ~ output').value")
    tab.look(width)
    assert tab.evaluate("document.querySelector('[data-control=batch] ~ output').value") == wide
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    text = tab.evaluate(TICKS)
    move(tab, "batch", 2)
    assert tab.evaluate(TICKS) != text
    move(tab, "batch", 1)
    assert tab.console == []


@pytest.mark.slow
def test_hostile_names_choose_nothing(tmp_path: Path) -> None:
    bad = "</script><script>window.hit=1</script>\"'+datum.x+{{hit}}"
    path = tmp_path / "hostile.html"
    path.write_text(render(page((bad, "two"))), encoding="utf-8")
    with browser.open_page(path) as tab:
        move(tab, "system", 1)
        assert tab.evaluate("window.hit === undefined")
        assert tab.evaluate(f"{LINES}.map(e => e.getAttribute('opacity'))") == ["1", "0.15"]
        assert tab.console == []
