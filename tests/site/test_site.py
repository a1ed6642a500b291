"""All questions as one folder of pages."""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import browser
import pytest

from roofrack.errors import InputError
from roofrack.report.index import Entry, Index, glossary
from roofrack.report.page import Finding
from roofrack.report.render import Link, render_index
from roofrack.results import store
from roofrack.site import QUESTIONS, Built, build
from roofrack.site.questions import asked, chosen

HARDWARE = ("hardware=h100_sxm", "model=llama3_1_8b", "batch=[1,16,256]", "parallelism.tp=[1,2]")
SMALL = (*HARDWARE, "parallelism.dp=1", "parallelism.ep=1", "workload.dtype.math=fp8")


def test_every_question_of_the_site_has_a_title() -> None:
    titles = [asked(name, (), None).title for name in QUESTIONS]
    assert len(set(titles)) == len(QUESTIONS)
    assert not set(titles) & set(QUESTIONS)  # a title, not the name for want of one


def test_questions_are_chosen_by_name() -> None:
    assert chosen(None) == QUESTIONS
    assert chosen("racks,sparsity,racks") == ("racks", "sparsity")
    with pytest.raises(InputError, match=r"questions=\.\./x: allowed are names"):
        chosen("../x")


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is there already; name a new folder"):
        build((), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_mistake_that_all_questions_meet_is_raised_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="h100_sxn"):
        build(("hardware=h100_sxn",), tmp_path / "site")
    with pytest.raises(InputError, match="no_such"):
        build((), tmp_path / "site", only="no_such")
    assert not list(tmp_path.iterdir())


def test_the_index_escapes_what_it_is_told() -> None:
    bad = "</script><script>alert(1)</script>"
    entry = Entry(bad, "a.html", bad, (Finding(bad, "contradicts"),), 1, 2, (bad,), ((bad, bad),))
    index = Index(bad, bad, (entry,), ((bad, bad),), glossary(), bad)
    text = render_index(index, (Link(bad, "index.html", True), Link(bad, "a.html")))
    assert bad not in text
    assert text.count("<script") == 3


def test_limits_that_several_pages_share_are_told_once() -> None:
    entries = [Entry(t, f"{t}.html", "A", (), 0, 0, ("shared", t)) for t in ("a", "b")]
    index = Index("T", "Q", tuple(entries), (), (), "roofrack site")
    assert index.limits.count("shared") == 1
    assert "a" not in index.limits


def test_words_of_the_glossary_are_explained_once() -> None:
    terms = [word.term for word in glossary()]
    assert len(terms) == len(set(terms)) > 30
    assert all(word.says.endswith(".") for word in glossary())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A small site, one of whose questions cannot be asked of what is given."""
    folder = tmp_path_factory.mktemp("sites") / "site"
    words = (*SMALL, "workload.dtype.kv=bf16")
    return build(words, folder, only="fast_mode,validation,training", export=("csv",))


@pytest.mark.slow
def test_pages_link_each_other_and_what_is_missing_is_said(site: Built) -> None:
    names = {page.file for page in site.pages}
    assert "fast_mode.html" in names
    assert not [f for f in site.folder.parent.iterdir() if "part" in f.name]
    index = (site.folder / "index.html").read_text()
    for page in site.pages:
        assert f'href="{page.file}"' in index
        assert page.findings[0].text[:20].replace("'", "&#39;") in index
    for name, why in site.refused:
        assert name in index
        assert why[:20] in index
    assert store.scan(site.folder / "data" / "fast_mode").collect().height == 6
    assert list((site.folder / "export" / "fast_mode").glob("*.csv"))
    assert str(site.folder.parent) not in index


@pytest.fixture(scope="module")
def tabs(site: Built) -> Iterator[dict[str, browser.Tab]]:
    with (
        browser.open_page(site.folder / "index.html") as index,
        browser.open_page(site.folder / "fast_mode.html") as page,
    ):
        yield {"index": index, "page": page}


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["index", "page"])
def test_an_accessibility_checker_has_no_complaint(
    tabs: dict[str, browser.Tab], name: str, dark: bool
) -> None:
    tab = tabs[name]
    tab.look(1200, dark=dark)
    tab.evaluate(files("axe_core_python").joinpath("axe.min.js").read_text() + ";0")
    rules = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}"
    complaints = tab.evaluate(
        f"axe.run(document, {rules}).then(r => r.violations.map("
        "v => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map(n => n.target).join(' ')}`))"
    )
    assert complaints == []
    assert tab.console == []
    assert tab.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 700, 1600])
def test_the_index_fits_any_width(tabs: dict[str, browser.Tab], width: int) -> None:
    tabs["index"].look(width)
    assert tabs["index"].evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.slow
def test_every_link_of_the_index_leads_somewhere(site: Built) -> None:
    text = (site.folder / "index.html").read_text()
    targets = {t for t in re.findall(r'href="([^"#]+)"', text)}
    assert targets == {"index.html", *(page.file for page in site.pages)}
