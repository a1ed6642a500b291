"""The page in a real browser without a network: it draws, asks for nothing, fits any width."""

from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from report.pages import page

from roofrack.report.render import render

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Tab]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(page()), encoding="utf-8")
    with browser.open_page(path) as opened:
        yield opened


def test_charts_are_drawn_without_a_network_or_a_complaint(tab: browser.Tab) -> None:
    assert tab.evaluate("document.querySelectorAll('.chart svg').length") == 3
    assert tab.evaluate("document.querySelectorAll('.chart path').length") > 30
    assert tab.console == []
    assert tab.requests == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 700, 1200, 1600])
def test_nothing_overflows(tab: browser.Tab, width: int, dark: bool) -> None:
    tab.look(width, dark=dark)
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    boxes = "[...document.querySelectorAll('.chart')].map(b => b.scrollWidth - b.clientWidth)"
    assert max(tab.evaluate(boxes)) <= 1
    assert tab.console == []


def test_scheme_follows_the_system_and_the_button(tab: browser.Tab) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('.chart svg text')).fill"
    tab.look(1200, dark=True)
    assert tab.evaluate(ground) == "rgb(21, 24, 29)"
    assert tab.evaluate(ink) == "rgb(230, 232, 237)"
    tab.evaluate("document.getElementById('scheme').click()")
    assert tab.evaluate(ground) == "rgb(255, 255, 255)"
    assert tab.evaluate("document.getElementById('scheme').textContent") == "Dark mode"
    tab.evaluate("delete document.documentElement.dataset.scheme")


def test_print_is_dark_on_white_even_from_a_dark_screen(tab: browser.Tab) -> None:
    ink = "getComputedStyle(document.querySelector('h1')).color"
    for scheme in ("", "dark", "light"):
        tab.evaluate(f"document.documentElement.dataset.scheme = '{scheme}'")
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        tab.send("Emulation.setEmulatedMedia", media="print", features=features)
        assert tab.evaluate(ink) == "rgb(0, 0, 0)"
    tab.send("Emulation.setEmulatedMedia", media="", features=[])
    tab.evaluate("delete document.documentElement.dataset.scheme")


def test_download_gives_all_digits(tab: browser.Tab) -> None:
    tab.evaluate(
        "window.kept = [];"
        "URL.createObjectURL = blob => (blob.text().then(t => kept.push(t)), 'blob:null/x');"
        "HTMLAnchorElement.prototype.click = function () { kept.push(this.download) };"
        "document.querySelector('[data-csv=single]').click()"
    )
    tab.wait_for("kept.length === 2")
    name, text = tab.evaluate("kept")
    assert name == "single.csv"
    assert text.splitlines()[0] == "hardware,batch,step_s,usd_per_mtok"


def test_every_control_can_be_reached_and_is_named(tab: browser.Tab) -> None:
    nameless = (
        "[...document.querySelectorAll('a[href], button:not([hidden]), summary, [tabindex]')]"
        ".filter(e => !(e.textContent.trim() || e.getAttribute('aria-label'))).length"
    )
    assert tab.evaluate(nameless) == 0
    broken = (
        "[...document.querySelectorAll('nav a, main a')]"
        ".filter(a => !document.getElementById(a.hash.slice(1))).length"
    )
    assert tab.evaluate(broken) == 0
    described = (
        "[...document.querySelectorAll('.chart')]"
        ".every(c => document.getElementById(c.getAttribute('aria-describedby')))"
    )
    assert tab.evaluate(described)


def test_hostile_names_change_nothing(tmp_path: Path) -> None:
    bad = "</script><script>window.hit=1</script>\"'{{hit}}<img src=x onerror=window.hit=1>'+hit+'"
    path = tmp_path / "hostile.html"
    path.write_text(render(page((bad, "datum.x"), bad)), encoding="utf-8")
    with browser.open_page(path) as opened:
        assert opened.evaluate("window.hit === undefined")
        assert opened.evaluate("document.querySelectorAll('.chart svg').length") == 3
        assert bad in opened.evaluate("document.querySelector('h1').textContent")
        opened.evaluate(
            "document.querySelector('.chart svg path[aria-roledescription=point]')"
            "?.dispatchEvent(new MouseEvent('mousemove', {bubbles: true, clientX: 5, clientY: 5}))"
        )
        assert opened.evaluate("window.hit === undefined")
        assert opened.console == []
        assert opened.requests == []
