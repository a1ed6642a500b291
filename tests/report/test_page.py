"""The page as text: complete, escaped, reproducible, and with nothing of the machine in it."""

import getpass
import html
import json
import re
import socket
from pathlib import Path

import polars as pl
import pytest
from report.pages import page, table

from roofrack import caching
from roofrack.errors import InputError
from roofrack.report import runtime
from roofrack.report.export import export
from roofrack.report.listing import MOST_ROWS, listing
from roofrack.report.page import Figure, Page, Provenance, Section, slug
from roofrack.report.payload import embedded_json
from roofrack.report.render import render, tidy

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"\' onmouseover="alert(1)',
    "{{ 7*7 }} {% raw %} ${7*7}",
    "datum['x'] && alert(1)",
    "<!-- <script> ]]> &lt;",
    "\u2028\u2029\u202e\x00",
)


def payload(text: str) -> dict:
    """Return the data that the page hands to its script."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found.group(1))


def without_runtime(text: str) -> str:
    return text.replace(runtime.bundle(), "")


def test_page_says_everything() -> None:
    text = render(page())
    said = (
        "What does the batch cost?",
        "It falls with the batch.",
        "Agrees with the lecture",
        "Contradicts the lecture",
        "Computed from: batch=64",
        "Nothing about the batch.",
        "A data sheet of the batch",
        "no public source",
        "0a1b2c",
        "vega-lite",
    )
    for words in said:
        assert words in text, words
    assert text.count('class="chart"') == 3
    assert set(payload(text)["figures"]) == {"single", "linked", "heat", "plain"}


def test_page_is_the_same_each_time() -> None:
    assert render(page()) == render(page())


def test_page_holds_nothing_of_the_machine() -> None:
    text = without_runtime(render(page()))
    for secret in (str(Path.home()), str(Path.cwd()), socket.gethostname()):
        assert secret not in text or len(secret) < 4
    assert f"/{getpass.getuser()}/" not in text
    assert not re.search(r"""(?:src|href)=["'](?!#)""", text)


def test_page_is_about_one_megabyte() -> None:
    assert len(render(page()).encode()) < 1.1e6


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_shown_not_run(text: str) -> None:
    made = render(page((text, "other"), text))
    plain, attacked = without_runtime(render(page())), without_runtime(made)
    for mark in ("<script", "</script", "<img", "<!--", 'onmouseover="', "<svg"):
        assert attacked.count(mark) == plain.count(mark), mark
    assert html.escape(text, quote=False).replace('"', "&#34;").replace("'", "&#39;") in attacked
    rows = next(iter(payload(made)["figures"]["single"]["spec"]["datasets"].values()))
    assert rows[0]["hardware"] == text


def test_policy_forbids_everything_else() -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', render(page()))
    assert policy
    assert html.unescape(policy.group(1)).startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy.group(1)


def test_embedded_json() -> None:
    assert embedded_json({"a": "</script>"}) == '{"a":"\\u003c/script\\u003e"}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded_json(float("nan"))


def test_page_without_charts_carries_no_runtime() -> None:
    bare = Page("T", "Q", "A", (), (), (), Provenance("roofrack point"))
    assert len(render(bare)) < 40_000


def test_figure_keys_are_unique() -> None:
    figure = Figure("a", "A", None, "", "", table())
    twice = Page("T", "Q", "A", (), (Section("S", (), (figure, figure)),), (), Provenance("x"))
    with pytest.raises(ValueError, match="'a' is used twice"):
        render(twice)


def test_missing_values_are_drawn_as_gaps() -> None:
    import altair as alt

    from roofrack.report.specs import to_spec

    frame = pl.DataFrame({"x": [1.0, float("nan"), None], "y": [1.0, float("inf"), 2.0]})
    spec = to_spec(alt.Chart(frame).mark_point().encode(x="x", y="y"))
    rows = next(iter(spec["datasets"].values()))
    assert rows == [{"x": 1.0, "y": 1.0}, {"x": None, "y": None}, {"x": None, "y": 2.0}]


def test_long_tables_are_cut_and_say_so() -> None:
    long = pl.DataFrame({"n": range(1000), "fits": [True, None] * 500})
    made = listing(long, {}, {})
    assert (len(made.rows), made.total) == (MOST_ROWS, 1000)
    assert made.rows[1] == ("1", "–")
    section = Section("S", (), (Figure("t", "T", None, "", "", long),))
    text = render(Page("T", "Q", "A", (), (section,), (), Provenance("x")))
    assert "The first 200 of 1,000 rows" in text
    assert payload(text)["figures"]["t"]["csv"].count("\n") == 1001


def test_small_helpers() -> None:
    assert slug("Cost / speed (µs)") == "cost-speed-s"
    assert (
        tidy("takes 5.24 ms of 14 GB, 36 % more")
        == "takes 5.24\u00a0ms of 14\u00a0GB, 36\u00a0% more"
    )
    assert tidy("batch 64 sequences") == "batch 64 sequences"


def test_what_is_typed_is_set_as_code_and_nothing_else_is_markup() -> None:
    assert tidy("ask `roofrack plan own`") == "ask <code>roofrack plan own</code>"
    assert tidy("`<b>` <i>") == "<code>&lt;b&gt;</code> &lt;i&gt;"
    assert tidy("a ` alone") == "a ` alone"


def test_runtime_cache_survives_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "script.js"
    runtime._write(path, "let a = 'µ';\n")
    assert runtime._read(path) == "let a = 'µ';\n"
    assert [p.name for p in path.parent.iterdir()] == ["script.js"]
    path.write_bytes(path.read_bytes()[:-3])
    assert runtime._read(path) is None
    assert runtime._read(tmp_path / "absent.js") is None
    (tmp_path / "file").write_text("")
    runtime._write(tmp_path / "file" / "x.js", "not a folder: only time is lost")
    monkeypatch.setenv("ROOFRACK_CACHE_DIR", str(tmp_path))
    assert caching.cache_folder() == tmp_path


def test_runtime_is_safe_inside_a_script_element() -> None:
    script = runtime.bundle()
    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert "vegaEmbed" in script
    for name in ("vega-lite", "d3-array", "fast-json-patch", "Redistributions in binary form"):
        assert name in runtime.notices()


def test_export_writes_each_figure(tmp_path: Path) -> None:
    paths = export(page(), tmp_path / "figures")
    names = {path.name for path in paths}
    assert names == {
        f"{k}.{e}" for k in ("single", "linked", "heat") for e in ("png", "svg", "csv")
    } | {"plain.csv"}
    assert (tmp_path / "figures" / "single.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "figures" / "linked.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert "currentColor" not in svg
    assert pl.read_csv(tmp_path / "figures" / "plain.csv").equals(table())


def test_export_names_the_kinds() -> None:
    with pytest.raises(
        InputError, match=r"export=pgn: must be one of png, svg, csv\. Did you mean 'png'\?"
    ):
        export(page(), Path("unused"), ("pgn",))
