"""The question from the command line to the page in a browser without a network."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from questions import SMALL

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Tab]:
    browser.require()
    folder = tmp_path_factory.mktemp("fast_mode")
    done = subprocess.run(
        [sys.executable, "-m", "roofrack", "sweep", *SMALL],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    path = folder / Path(done.stdout.strip().splitlines()[-1])
    with browser.open_page(path) as opened:
        yield opened


def test_everything_is_drawn_and_nothing_asked_for(tab: browser.Tab) -> None:
    charts = "document.querySelectorAll('.chart').length"
    assert (
        tab.evaluate(charts) == tab.evaluate("document.querySelectorAll('.chart svg').length") == 12
    )
    assert tab.evaluate("document.documentElement.dataset.failed === undefined")
    assert tab.console == []
    assert tab.requests == []


def test_it_says_what_it_found(tab: browser.Tab) -> None:
    assert tab.evaluate("document.querySelector('h1').textContent") == "What does speed cost?"
    headings = tab.evaluate("[...document.querySelectorAll('main h2')].map(h => h.textContent)")
    assert headings[:3] == ["Findings", "What a price buys", "Move it yourself"]
    texts = tab.evaluate("[...document.querySelectorAll('.finding')].map(f => f.textContent)")
    assert len(texts) >= 10
    whole = " ".join(" ".join(texts).split())
    for word in ("tokens/s for each user", "critical batch", "5,441", "a batch 15 times smaller"):
        assert word in whole
    broken = (
        "[...document.querySelectorAll('.basis a')].filter(a => !document.querySelector(a.hash))"
    )
    assert tab.evaluate(f"{broken}.length") == 0


def test_another_pair_can_be_chosen(tab: browser.Tab) -> None:
    chart = "document.querySelector('[data-figure=step]')"
    before = tab.evaluate(f"{chart}.querySelector('svg').innerHTML")
    options = tab.evaluate(f"[...{chart}.querySelectorAll('option')].map(o => o.value)")
    assert len(options) == 4
    tab.evaluate(
        "(s => { s.selectedIndex = 0; s.dispatchEvent(new Event('input', {bubbles: true}));"
        " s.dispatchEvent(new Event('change', {bubbles: true}))"
        f" }})({chart}.querySelector('select'))"
    )
    tab.wait_for(f"{chart}.querySelector('svg').innerHTML !== {_quoted(before)}")
    assert tab.console == []


def test_the_legend_highlights_in_both_panels(tab: browser.Tab) -> None:
    faint = (
        "[...document.querySelectorAll('[data-figure=frontier] .mark-symbol.role-mark path')]"
        ".filter(p => Number(p.getAttribute('opacity') ?? 1) < 0.5).length"
    )
    assert tab.evaluate(faint) == 0
    entry = "document.querySelector('[data-figure=frontier] .role-legend-symbol path')"
    tab.evaluate(
        f"{entry}.dispatchEvent(new MouseEvent('click', {{bubbles: true, clientX: 1, clientY: 1}}))"
    )
    tab.wait_for(f"{faint} > 0")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1200, 1600])
def test_it_fits_any_window(tab: browser.Tab, width: int, dark: bool) -> None:
    tab.look(width, dark=dark)
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    boxes = "[...document.querySelectorAll('.chart')].map(b => b.scrollWidth - b.clientWidth)"
    assert max(tab.evaluate(boxes)) <= 1
    assert tab.console == []


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)
