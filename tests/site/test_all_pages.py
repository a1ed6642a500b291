"""Every page of the site as it ships, in a real browser: it asks for nothing, and fits."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import browser
import pytest

from roofrack.site.build import Built, build
from roofrack.site.questions import QUESTIONS

pytestmark = pytest.mark.slow
RULES = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}"
MOST_BYTES = 25e6
"""Of the whole site, its data with it."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build((), tmp_path_factory.mktemp("whole") / "site")


@pytest.fixture(scope="module", params=("index", *QUESTIONS))
def tab(site: Built, request: pytest.FixtureRequest) -> Iterator[browser.Tab]:
    with browser.open_page(Path(site.folder) / f"{request.param}.html") as opened:
        yield opened


def test_all_questions_are_answered_in_little_space(site: Built) -> None:
    assert [page.file for page in site.pages] == [f"{name}.html" for name in QUESTIONS]
    assert site.refused == () and site.size < MOST_BYTES
    for page in site.pages:
        assert page.stated >= 3 and page.figures >= 3 and page.limits, page.file


@pytest.mark.parametrize("dark", [False, True])
def test_an_accessibility_checker_has_no_complaint(tab: browser.Tab, dark: bool) -> None:
    tab.look(1200, dark=dark)
    tab.evaluate(files("axe_core_python").joinpath("axe.min.js").read_text() + ";0")
    complaints = tab.evaluate(
        f"axe.run(document, {RULES}).then(r => r.violations.map("
        "v => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map(n => n.target).join(' ')}`))"
    )
    assert complaints == []


def test_it_fits_any_width_asks_for_nothing_and_says_nothing(tab: browser.Tab) -> None:
    for width in (400, 700, 1600):
        tab.look(width)
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width
    assert tab.console == []
    assert tab.requests == []
    assert tab.evaluate("document.querySelectorAll('.failed').length") == 0


def test_sliders_move_what_stands_below_them(tab: browser.Tab) -> None:
    moved = tab.evaluate(
        """(async () => {
          const done = [];
          for (const input of document.querySelectorAll('.control input[type=range]')) {
            const section = input.closest('section');
            const charts = () => [...section.querySelectorAll('.chart svg')];
            const seen = () => charts().map(chart => chart.innerHTML).join();
            const before = seen(), start = input.value;
            let changed = false;
            for (const value of [input.min, input.max]) {
              input.value = value;
              input.dispatchEvent(new Event('input', {bubbles: true}));
              await new Promise(go => setTimeout(go, 150));
              changed ||= seen() !== before;
            }
            input.value = start;
            input.dispatchEvent(new Event('input', {bubbles: true}));
            done.push([section.id, input.id || input.name, changed]);
          }
          return done;
        })()"""
    )
    assert all(changed for _, _, changed in moved), moved
    assert tab.console == []
